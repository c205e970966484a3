"""Make instruction data in one schema: pictures, and a conversation about them in the official row format.

Drawn scenes give questions with their only right answer, captioned pictures their captions, and a user's own
instruction data whatever it holds. A row that does not hold together is rejected with its reason and named with its
file and line, never replaced.

Nothing is counted in tokens here: the same data serve models with different tokenizers and templates.
`stages/chat_lengths.py` does that once for each of them.
"""

import io
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

from stages.chat_template import IMAGE
from stages.conversation_pictures import size_of
from stages.conversation_plan import plan_source
from stages.conversation_rows import RowError, check
from stages.conversation_shards import LISTED, Bad, Made, write_part
from stages.conversation_sources import OwnConversations, hashes
from stages.frame_policy import FramePolicy
from stages.manifest import File, Manifest, ManifestError, Part, digest_of
from stages.own_conversations import Showing, own_part
from stages.prompts import DESCRIBE
from stages.sources.captions import LANGUAGES, caption
from stages.sources.identity import uid_of
from stages.sources.questions import KINDS, Kind, ask
from stages.sources.scenes import FIRST_OF_CONVERSATIONS, Split, draw, sample_scene
from stages.tars import read_tar
from stages.workspace import Output, Workspace, read_file

VERSION = 4
CAPTION_FIRST = 0.25
"""Share of scenes that are described before they are asked about: most answers must be seen, not copied."""
SHOWN = 5
"""Bad rows whose sentences the manifest itself keeps; the report lists more."""

Item = tuple[str, str, range | File]


class Parameters(BaseModel):
    """What the conversations are about: drawn scenes, captioned pictures, or both; or data of one's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenes: int = Field(default=0, ge=0, description="Drawn training scenes that are asked about.")
    captions: bool = Field(default=False, description="Ask for the captions of shards/caption_quality.")
    questions_per_scene: int = Field(default=3, ge=1, le=5, description="Questions of different kinds per scene.")
    shares: dict[Kind, PositiveFloat] = Field(
        default=dict.fromkeys(KINDS, 1.0),
        description="How often each kind of question is drawn before the others; one left out is never asked.",
    )
    mixed_languages: bool = Field(
        default=False, description="Ask each question of a scene in a language of its own, not all in one."
    )
    described: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of scenes that are described too; long answers outweigh short ones.",
    )
    image_size: int = Field(default=48, ge=16, description="Side of a drawn picture in pixels.")
    own: OwnConversations | None = Field(default=None, description="Instruction data of one's own, and nothing else.")
    frames: FramePolicy = Field(default=FramePolicy(), description="Which frames of a video are shown.")
    max_pixels: int = Field(default=50_000_000, ge=1, description="Pictures with more pixels are refused.")
    rows_per_shard: int = Field(default=2000, ge=1)
    seed: int = Field(default=0, description="Seed of the drawn world, of what is asked and of drawn frames.")

    @model_validator(mode="after")
    def _about_something(self) -> "Parameters":
        if not self.scenes and not self.captions and self.own is None:
            raise ValueError("give scenes > 0, or captions=true, or own: else there is nothing to talk about")
        if self.own is not None and (self.scenes or self.captions):
            raise ValueError("data of one's own is an artifact of its own: give no scenes and no captions with it")
        if len(self.shares) < self.questions_per_scene:
            raise ValueError(
                f"{self.questions_per_scene} questions of different kinds per scene, and shares names "
                f"{len(self.shares)}; name more kinds, or lower questions_per_scene"
            )
        return self


def conversation(turns: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Return (question, answer) pairs as official turns; the picture stands before the first question."""
    out = []
    for number, (question, answer) in enumerate(turns):
        out.append({"from": "human", "value": question if number else f"{IMAGE}\n{question}"})
        out.append({"from": "gpt", "value": answer})
    return out


def drawn_kinds(shares: Mapping[Kind, float], count: int, rng: random.Random) -> list[Kind]:
    """Return `count` different kinds, each draw as likely as its share of those that are left."""
    left = dict(shares)
    found: list[Kind] = []
    for _ in range(count):
        found += rng.choices(list(left), list(left.values()))
        del left[found[-1]]
    return found


def scene_row(parameters: Parameters, index: int) -> tuple[str, dict[str, Any], bytes]:
    """Return (uid, row, picture) of a training scene: questions and often a description."""
    seed, number = parameters.seed, FIRST_OF_CONVERSATIONS + index
    scene = sample_scene(seed, number, Split.TRAIN)
    rng = random.Random(f"conversation/{seed}/{index}")
    language = LANGUAGES[index % len(LANGUAGES)]
    kinds = drawn_kinds(parameters.shares, parameters.questions_per_scene, rng)
    # Where things are is learned first as a distance between tokens, and only the first question's never changes.
    languages = rng.choices(LANGUAGES, k=len(kinds)) if parameters.mixed_languages else [language] * len(kinds)
    kinds.sort(key=lambda kind: kind != "relation")
    asked = [ask(scene, spoken, kind, rng) for spoken, kind in zip(languages, kinds, strict=True)]
    turns = [(each.question, each.answer) for each in asked]
    described = (DESCRIBE[language], caption(scene, language, 0))
    if rng.random() < parameters.described:
        turns.insert(0 if rng.random() < CAPTION_FIRST else len(turns), described)
    told = None if parameters.mixed_languages else language
    uid = uid_of("scenes", f"scene:{seed}/{Split.TRAIN}/{number}", described[1]).hex()
    row = {"id": uid, "source": "scenes", "language": told, "conversations": conversation(turns)}
    out = io.BytesIO()
    # Full colour resolution: at 48 pixels an object is as small as what a JPEG averages over.
    draw(scene, parameters.image_size).save(out, "JPEG", quality=95, subsampling=0)
    return uid, row, out.getvalue()


def _checked(row: tuple[str, dict[str, Any], bytes], parameters: Parameters, file: str) -> Made | Bad:
    """Return a row about one picture as a conversation, or with the reason why it is none."""
    uid, told, picture = row
    try:
        check(told, 1)
        width, height = size_of(picture, parameters.max_pixels, "its picture")
    except RowError as error:
        return Bad(file, f"sample {uid}", error.reason, error.what)
    return Made(uid, {**told, "width": width, "height": height}, [picture])


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
        rows, file = _caption_rows(output, shards, what), shards.key(what)
    else:
        rows, file = (scene_row(parameters, index) for index in what), "drawn scenes"
    return write_part(key, digest, (_checked(row, parameters, file) for row in rows), output)


def _own(parameters: Parameters, own: OwnConversations, output: Output, here: Workspace) -> tuple[Part, list[Part]]:
    """Return the plan of a user's data, and the shards made of it."""
    read = digest_of([own.model_dump(mode="json"), *hashes(own, here.store)])
    plan = partial(plan_source, output=output, source=own, rows_per_shard=parameters.rows_per_shard)
    (planned,) = here.map_parts(output, plan, [("plan", read, ("plan", read))], unit="files", light=True)
    work = partial(own_part, source=own, showing=_showing(parameters), output=output)
    items = [(name, file.sha256, (name, file)) for name, file in sorted(planned.files.items())]
    return planned, here.map_parts(output, work, items, unit="shards")


def _showing(parameters: Parameters) -> Showing:
    return Showing(parameters.max_pixels, parameters.frames, parameters.seed)


def _drawn_and_captioned(parameters: Parameters, output: Output, here: Workspace) -> list[Part]:
    items: list[tuple[str, str, Item]] = []
    for number, start in enumerate(range(0, parameters.scenes, parameters.rows_per_shard)):
        indices = range(start, min(start + parameters.rows_per_shard, parameters.scenes))
        key, digest = f"scenes-{number:06d}", digest_of([indices.start, indices.stop])
        items.append((key, digest, (key, digest, indices)))
    shards = here.input("shards/caption_quality") if parameters.captions else None
    for part in shards.parts if shards else ():
        key, digest = f"captions-{part.key}", part.files["tar"].sha256
        items.append((key, digest, (key, digest, part.files["tar"])))
    work = partial(conversations_part, parameters=parameters, output=output, shards=shards)
    return here.map_parts(output, work, items, unit="shards")


def _bad_rows(parts: Sequence[Part], output: Output) -> list[str]:
    """Return the sentences about bad rows, as many as are listed."""
    found: list[str] = []
    for part in parts:
        if "bad_rows" in part.files and len(found) < LISTED:
            found += output.store.read(output.ref.key(part.files["bad_rows"].name)).decode().splitlines()
    return found[:LISTED]


def _refuse_too_many(own: OwnConversations, bad: Counter[str], listed: int, first: Sequence[str]) -> None:
    if listed and bad.total() > own.most_bad * listed:
        counted = ", ".join(f"{count} {reason}" for reason, count in bad.most_common())
        raise ManifestError(
            f"source {own.name}: {bad.total()} of {listed} rows are bad ({counted}), more than the share "
            f"{own.most_bad} that most_bad allows; the first: {'; '.join(first[:SHOWN])}"
        )


def _markdown(rejected: dict[str, int]) -> str:
    """Return how many rows are bad, by reason, for the step's page; what they say stays in the report."""
    lines = (f"| {reason.replace('_', ' ')} | {count:,} |" for reason, count in rejected.items())
    return "\n".join(["| rows left out | |", "| :-- | --: |", *lines])


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Write all conversations in shards.

    Raises:
        ManifestError: None can be made; of a user's data, more are bad than it allows.
    """
    own, totals, plan = parameters.own, dict[str, Any](), None
    if own is None:
        parts = _drawn_and_captioned(parameters, output, here)
    else:
        plan, parts = _own(parameters, own, output, here)
        totals["beyond_repeat"] = plan.facts["beyond_repeat"]
    for name in ("turns", "characters", "pictures", "videos"):
        totals[name] = sum(part.facts[name] for part in parts)
    for name in ("rejected", "languages", "per_source"):
        counted = sum((Counter(part.facts[name]) for part in parts), Counter[str]())
        totals[name] = dict(sorted(counted.items()))
    bad = _bad_rows(parts, output)
    if own is not None:
        _refuse_too_many(own, Counter(totals["rejected"]), sum(part.ledger.listed for part in parts), bad)
    if not sum(part.ledger.kept for part in parts):
        raise ManifestError(
            f"no conversation could be made: {totals['rejected'] or 'there is no row'}; "
            "keep more rows in the caption_quality filter, give conversations.scenes, or mend your own rows"
        )
    if not bad:
        made = output.commit(parts, totals=totals)
    else:
        told = {**totals, "first_bad_rows": bad[:SHOWN], "markdown": _markdown(totals["rejected"])}
        report = "bad_rows.txt", "\n".join([*bad, ""]).encode()
        made = output.commit(parts, totals=told, reports={"bad_rows": report})
    if plan is not None:  # it says again what the shards hold, and no manifest counts it
        for file in plan.files.values():
            output.store.remove(output.ref.key(file.name))
    return made
