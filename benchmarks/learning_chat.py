"""What the tiny chat model learns, on several seeds, beside two twins: `make seeds` after `make demo`.

One twin is trained as long with the pictures of other samples, so what it answers is guessed. The other starts from
an untrained vision encoder, so what it lacks is what the earlier stages gave. Every seed takes the language and
contrastive checkpoints of its own, those of `benchmarks.learning`, and makes them where they do not stand.
Settings were chosen on the validation split; these numbers are of the splits that no choice has seen.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import learning
from infra.storage import Store
from pipelines.recipes import tiny
from stages import evaluate
from stages.materialize import StageSpec
from stages.ref import Ref
from stages.sources.questions import KINDS

RESULT = Path(__file__).parent / "results" / "learning_chat.json"
SHARED = ("shards/clean", "conversations")
TWINS: dict[str, dict[str, Any]] = {"": {}, "-blind": {"blind": True}, "-untrained": {"untrained_vision": True}}
"""What is trained for each seed, by what stands behind its version."""


def specs_of(seed: int) -> list[StageSpec]:
    """Return the stages of one seed, in order: the towers, the chat model and its twins, and their evaluations."""
    recipe, version = tiny.tiny("http://127.0.0.1:1"), f"seed{seed}"
    towers = [spec for spec in learning.specs_of(seed) if spec.stage in ("language", "contrastive")]
    schedule = recipe.instruct.schedule.model_copy(update={"seed": seed})
    judge = evaluate.Parameters(kind="instruct", scenes=learning.SCENES, image_size=tiny.IMAGE_SIZE).model_dump()
    needs = (Ref(name="conversations", version="tiny"), *(spec.artifact for spec in towers))
    found = list(towers)
    for twin, changed in TWINS.items():
        made = Ref(name="checkpoints/instruct", version=f"{version}{twin}")
        parameters = recipe.instruct.model_copy(update={"schedule": schedule, **changed}).model_dump()
        found.append(StageSpec(stage="instruct", artifact=made, parameters=parameters, inputs=needs))
        page = Ref(name="evaluations/instruct", version=f"{version}{twin}")
        found.append(StageSpec(stage="evaluate", artifact=page, parameters=judge, inputs=(made,)))
    return found


def collect(store: Store, seeds: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Return for every measure its value on each seed, chance, another picture, and both twins on each seed."""
    by_twin = {
        twin: [
            learning.measures_of(store, Ref(name="evaluations/instruct", version=f"seed{seed}{twin}"))
            for seed in seeds
        ]
        for twin in TWINS
    }
    found: dict[str, dict[str, Any]] = {}
    for name, row in by_twin[""][0].items():
        values = {twin: [each[name]["value"] for each in rows] for twin, rows in by_twin.items()}
        found[f"instruct/{name}"] = {
            "unit": row["unit"],
            "values": values[""],
            "chance": row["chance"],
            "another_picture": [each[name]["blind"] for each in by_twin[""]],
            "blind_twin": values["-blind"],
            "untrained_twin": values["-untrained"],
        }
    return found | sums(found)


def sums(measures: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return for each split and language the mean share of right answers over all kinds of question.

    A model from trained towers should lie above its untrained twin here, whatever single kinds say.
    """
    columns = ("values", "another_picture", "blind_twin", "untrained_twin")
    found = {}
    for name in measures:
        if not name.endswith(f"question_{KINDS[0]}"):
            continue
        start = name.removesuffix(KINDS[0])
        rows = [measures[f"{start}{kind}"] for kind in KINDS]
        means: dict[str, Any] = {
            column: [round(sum(each) / len(KINDS), 4) for each in zip(*(row[column] for row in rows), strict=True)]
            for column in columns
        }
        chance = round(sum(row["chance"] for row in rows) / len(KINDS), 4)
        found[f"{start}mean"] = {"unit": "%", "chance": chance, **means}
    return found


def table(measures: dict[str, dict[str, Any]]) -> str:
    """Return the measures as lines: lowest, middle and highest seed, then what guessing and the twins reach."""
    lines = ["measure | seeds, low / middle / high | chance | another picture | blind twin | untrained twin"]
    for name, row in measures.items():
        unit = row["unit"]
        cells = (row["values"], [row["chance"]], row["another_picture"], row["blind_twin"], row["untrained_twin"])
        lines.append(" | ".join([name, *(learning.shown(cell, unit) for cell in cells)]))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the seeds and publish; see `benchmarks.learning.run_study`."""
    study = learning.Study("benchmarks.learning_chat", SHARED, specs_of, collect, table, RESULT)
    return learning.run_study(study, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
