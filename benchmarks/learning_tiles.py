"""Do tiles show what a thumbnail does not? `make seeds`, after `make demo`.

A chat model learns the shape of the one small object in wide pictures twice, on equally many conversations: once
from tiles with a thumbnail, once from the thumbnail alone. Measured is the share of right shapes on pictures that
were kept aside, beside the same answer given about another picture.
"""

import io
import sys
from pathlib import Path
from typing import Any

from benchmarks.timing import publish, surroundings
from infra.cluster import InlineCluster
from infra.settings import settings
from infra.storage import Store
from pipelines.recipes import tiny
from stages.conversation_shards import Made, write_part
from stages.conversations import conversation
from stages.manifest import Manifest, digest_of, find
from stages.materialize import StageSpec, materialize
from stages.ref import Ref
from stages.sources.identity import uid_of
from stages.sources.scenes import Split
from stages.sources.wide_scenes import COLUMNS, draw_wide, sample_wide, wide_question
from stages.workspace import Output

RESULT = Path(__file__).parent / "results" / "learning_tiles.json"
TOWERS = tuple(Ref(name=f"checkpoints/{name}", version="tiny") for name in ("language", "contrastive"))
PICTURES, STEPS, BATCH = 6000, 800, 32
LEARNING_RATE = 1e-3
"""Half of the recipe's: with all of it the guard ended the training from tiles after 120 steps."""
WAYS = {"tiles": COLUMNS, "thumbnail": 1}
"""Most tiles of a picture; a single one is the whole picture, squashed."""


def wide_row(index: int) -> Made:
    """Return one wide picture with its question."""
    scene = sample_wide(0, index, Split.TRAIN)
    asked = wide_question(scene)
    uid = uid_of("wide", f"wide:0/{index}", asked.answer).hex()
    turns = conversation([(asked.question, asked.answer)])
    picture, out = draw_wide(scene, tiny.IMAGE_SIZE), io.BytesIO()
    picture.save(out, "JPEG", quality=95, subsampling=0)
    size = {"width": picture.width, "height": picture.height}
    row = {"id": uid, "source": "wide", "language": "en", "conversations": turns, **size}
    return Made(uid, row, [out.getvalue()])


def make_conversations(store: Store, pictures: int) -> Manifest:
    """Write the wide pictures with their questions as one shard of conversations."""
    ref = Ref(name="conversations", version=f"wide{pictures}")
    if (found := find(store, ref)) is not None:
        return found
    output = Output(store, ref, "conversations", {"wide_pictures": pictures})
    part = write_part("wide-000000", digest_of([pictures]), map(wide_row, range(pictures)), output)
    return output.commit([part], totals={})


def spec_of(way: str, data: Ref, steps: int = STEPS, held_out: int = 256) -> StageSpec:
    """Return the training from tiles, or from thumbnails alone."""
    given = tiny.tiny("http://127.0.0.1:1").instruct
    schedule = given.schedule.model_copy(update={"steps": steps, "global_batch_size": BATCH, "learning_rate": LEARNING_RATE})
    changed = {"max_dynamic_patch": WAYS[way], "schedule": schedule, "held_out": held_out}
    parameters: dict[str, Any] = given.model_copy(update=changed).model_dump()
    made = Ref(name="checkpoints/instruct", version=f"wide-{way}")
    return StageSpec(stage="instruct", artifact=made, parameters=parameters, inputs=(data, *TOWERS))


def main() -> int:
    """Train both and publish what they answer."""
    store = Store(settings().store_root)
    missing = [str(ref) for ref in TOWERS if find(store, ref) is None]
    if missing:
        print(f"{', '.join(missing)} is not in {store.root}; run `make demo` first", file=sys.stderr)
        return 2
    data = make_conversations(store, PICTURES).ref
    found = {way: materialize(spec_of(way, data), store, InlineCluster()).totals for way in WAYS}
    rows = {
        way: {"right": totals["answers_right"], "another_picture": totals["blind_answers_right"]}
        for way, totals in found.items()
    }
    lines = ["shown as | shape right, % | another picture, %"]
    lines += [f"{way} | {100 * row['right']:.3g} | {100 * row['another_picture']:.3g}" for way, row in rows.items()]
    about = {"pictures": PICTURES, "steps": STEPS, "batch": BATCH, **surroundings(("torch", "numpy"))}
    publish({**about, "measures": rows}, "\n".join(lines), RESULT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
