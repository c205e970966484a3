"""Make instruction data in one schema: a picture, and a conversation about it in the official row format.

Drawn scenes give questions with their only right answer; a user's own pictures give their
captions. A row that does not hold together is rejected with its reason, never replaced.
"""

import io
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

from stages.chat_template import IMAGE, control_token_in
from stages.manifest import File, Ledger, Manifest, ManifestError, Part, digest_of
from stages.prompts import DESCRIBE
from stages.sources.captions import KINDS, LANGUAGES, Kind, ask, caption
from stages.sources.identity import uid_of
from stages.sources.scenes import Split, draw, sample_scene
from stages.tars import read_tar, tar_bytes
from stages.workspace import Output, Workspace, read_file

VERSION = 2
CAPTION_FIRST = 0.25
"""Share of scenes that are described before they are asked about: most answers must be seen, not copied."""

Reason = Literal["no_turns", "roles", "empty_turn", "placeholders", "control_token", "picture"]
Members = dict[str, bytes]


class Parameters(BaseModel):
    """What the conversations are about: drawn scenes, captioned pictures, or both."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenes: int = Field(default=0, ge=0, description="Drawn training scenes that are asked about.")
    captions: bool = Field(default=False, description="Ask for the captions of shards/caption_quality.")
    questions_per_scene: int = Field(default=3, ge=1, le=5, description="Questions of different kinds per scene.")
    shares: dict[Kind, PositiveFloat] = Field(
        default=dict.fromkeys(KINDS, 1.0),
        description="How often each kind of question is drawn before the others; one left out is never asked.",
    )
    described: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of scenes that are described too; long answers outweigh short ones.",
    )
    image_size: int = Field(default=48, ge=16, description="Side of a drawn picture in pixels.")
    rows_per_shard: int = Field(default=2000, ge=1)
    seed: int = Field(default=0, description="Seed of the drawn world and of what is asked.")

    @model_validator(mode="after")
    def _about_something(self) -> "Parameters":
        if not self.scenes and not self.captions:
            raise ValueError("give scenes > 0, or captions=true, or both: else there is nothing to talk about")
        if len(self.shares) < self.questions_per_scene:
            raise ValueError(
                f"{self.questions_per_scene} questions of different kinds per scene, and shares names "
                f"{len(self.shares)}; name more kinds, or lower questions_per_scene"
            )
        return self


def problem(row: dict[str, Any], picture: bytes) -> Reason | None:
    """Return why a row cannot be learned from, None where it can.

    Turns alternate, begin with a human and end with an answer; exactly one `<image>` stands in
    them, in a question; nobody says a token that steers the model; the picture decodes.
    """
    turns = row["conversations"]
    if not turns:
        return "no_turns"
    if [turn["from"] for turn in turns] != ["human", "gpt"] * (len(turns) // 2):
        return "roles"
    said = [turn["value"] for turn in turns]
    if not all(text.replace(IMAGE, "").strip() for text in said):
        return "empty_turn"
    if sum(text.count(IMAGE) for text in said[::2]) != 1 or any(IMAGE in text for text in said[1::2]):
        return "placeholders"
    if any(control_token_in(text.replace(IMAGE, "")) for text in [*said, row.get("system") or ""]):
        return "control_token"
    try:
        with Image.open(io.BytesIO(picture)) as image:
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what Pillow raises on torn files
        return "picture"
    return None


def conversation(turns: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Return (question, answer) pairs as official turns; the picture stands before the first question."""
    out = []
    for number, (question, answer) in enumerate(turns):
        out.append({"from": "human", "value": question if number else f"{IMAGE}\n{question}"})
        out.append({"from": "gpt", "value": answer})
    return out


def _members(row: dict[str, Any], picture: bytes) -> Members:
    return {"jpg": picture, "json": json.dumps(row, sort_keys=True, ensure_ascii=False).encode()}


def drawn_kinds(shares: Mapping[Kind, float], count: int, rng: random.Random) -> list[Kind]:
    """Return `count` different kinds, each draw as likely as its share of those that are left."""
    left = dict(shares)
    found: list[Kind] = []
    for _ in range(count):
        found += rng.choices(list(left), list(left.values()))
        del left[found[-1]]
    return found


def scene_row(parameters: Parameters, index: int) -> tuple[str, dict[str, Any], bytes]:
    """Return (uid, row, picture) of a training scene: questions and often a description, in one language."""
    seed = parameters.seed
    scene = sample_scene(seed, index, Split.TRAIN)
    rng = random.Random(f"conversation/{seed}/{index}")
    language = LANGUAGES[index % len(LANGUAGES)]
    kinds = drawn_kinds(parameters.shares, parameters.questions_per_scene, rng)
    # Where things are is learned first as a distance between tokens, and only the first question's never changes.
    asked = [ask(scene, language, kind, rng) for kind in sorted(kinds, key=lambda kind: kind != "relation")]
    turns = [(each.question, each.answer) for each in asked]
    described = (DESCRIBE[language], caption(scene, language, 0))
    if rng.random() < parameters.described:
        turns.insert(0 if rng.random() < CAPTION_FIRST else len(turns), described)
    uid = uid_of("scenes", f"scene:{seed}/{Split.TRAIN}/{index}", described[1]).hex()
    row = {"id": uid, "source": "scenes", "language": language, "conversations": conversation(turns)}
    out = io.BytesIO()
    # Full colour resolution: at 48 pixels an object is as small as what a JPEG averages over.
    draw(scene, parameters.image_size).save(out, "JPEG", quality=95, subsampling=0)
    return uid, row, out.getvalue()


def _scene_rows(parameters: Parameters, indices: range) -> Iterator[tuple[str, dict[str, Any], bytes]]:
    for index in indices:
        yield scene_row(parameters, index)


def _caption_rows(output: Output, shards: Manifest, file: File) -> Iterator[tuple[str, dict[str, Any], bytes]]:
    for uid, members in read_tar(read_file(output.store, shards, file)):
        facts = json.loads(members["json"])
        language = facts.get("language")
        turns = [(DESCRIBE.get(language, DESCRIBE["en"]), members["txt"].decode().strip())]
        row = {"id": uid, "source": facts["source"], "language": language, "conversations": conversation(turns)}
        yield uid, row, members["jpg"]


def conversations_part(
    item: tuple[str, str, range | File], parameters: Parameters, output: Output, shards: Manifest | None
) -> Part:
    """Write one shard from a range of scenes or from one shard of captioned pictures."""
    key, digest, what = item
    if isinstance(what, File):
        assert shards is not None
        rows = _caption_rows(output, shards, what)
    else:
        rows = _scene_rows(parameters, what)
    kept: list[tuple[str, Members]] = []
    rejected: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    turns = 0
    for uid, row, picture in rows:
        if reason := problem(row, picture):
            rejected[reason] += 1
            continue
        kept.append((uid, _members(row, picture)))
        languages[str(row["language"])] += 1
        turns += len(row["conversations"]) // 2
    ledger = Ledger(listed=len(kept) + rejected.total(), kept=len(kept), rejected=rejected.total())
    facts = {"rejected": dict(sorted(rejected.items())), "languages": dict(sorted(languages.items())), "turns": turns}
    return output.part(key, digest, ledger, {"tar": (f"{key}.tar", tar_bytes(kept))}, facts)


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Write all conversations in shards; scenes first, then captioned pictures."""
    items: list[tuple[str, str, tuple[str, str, range | File]]] = []
    for number, start in enumerate(range(0, parameters.scenes, parameters.rows_per_shard)):
        indices = range(start, min(start + parameters.rows_per_shard, parameters.scenes))
        key, digest = f"scenes-{number:06d}", digest_of([indices.start, indices.stop])
        items.append((key, digest, (key, digest, indices)))
    shards = here.input("shards/caption_quality") if parameters.captions else None
    for part in shards.parts if shards else ():
        key, digest = f"captions-{part.key}", part.files["tar"].sha256
        items.append((key, digest, (key, digest, part.files["tar"])))
    work = partial(conversations_part, parameters=parameters, output=output, shards=shards)
    parts = here.map_parts(output, work, items, unit="shards")
    totals: dict[str, Any] = {"turns": sum(part.facts["turns"] for part in parts)}
    for name in ("rejected", "languages"):
        counted = sum((Counter(part.facts[name]) for part in parts), Counter())
        totals[name] = dict(sorted(counted.items()))
    if not sum(part.ledger.kept for part in parts):
        raise ManifestError(
            f"no conversation could be made: {totals['rejected'] or 'the shards are empty'}; "
            "keep more rows in the caption_quality filter, or give conversations.scenes"
        )
    return output.commit(parts, totals=totals)
