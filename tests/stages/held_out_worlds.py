"""Drawn artifacts of a whole road, and what each stage and evaluation shows in training and keeps aside of them.

Nothing here knows the rule: what is trained on is read from the batches of the real tasks, what is measured from what
they measure on; both are told by the bytes of pictures.
"""

import hashlib
import io
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

from PIL import Image
from training_data import make_internvl_c, make_language

from infra.cluster import InlineCluster
from infra.storage import Store
from stages import contrastive, conversations, evaluate, finetune, generative, instruct, language
from stages.batches import ShardedSamples
from stages.chat import ChatSession
from stages.chat_assembly import assemble
from stages.evaluation_held_out import dialogue_held_out, towers_held_out
from stages.evaluation_report import Findings
from stages.manifest import Ledger, Manifest, digest_of
from stages.ref import Ref
from stages.tars import tar_bytes
from stages.training.order import Order
from stages.workspace import Output, Workspace

SHARES = (0.15, 0.3, 0.5)
SCHEDULE = {"global_batch_size": 4, "steps": 1, "learning_rate": 0.01}
Sample = tuple[str, dict[str, bytes]]


class Sight(NamedTuple):
    """The pictures of one stage, by the hash of their bytes."""

    stage: str
    taught: set[str]
    aside: set[str]


class World:
    """Pictures, some under several captions; the later artifacts hold a part of them, in another order and cut."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Draw and publish all artifacts."""
        self.folder, self.store = folder, Store(str(folder / "store"))
        rng = random.Random(seed)
        self.share = rng.choice(SHARES)
        pictures = [_picture(rng) for _ in range(rng.randint(40, 60))]
        shown = [number for number in range(len(pictures)) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        samples = [_sample(place, pictures[number], rng) for place, number in enumerate(shown)]
        self.picture_of = {key: _hash(members["jpg"]) for key, members in samples}
        self.picture_of |= {members["txt"].decode(): _hash(members["jpg"]) for _, members in samples}
        self.numbers = {int(_hash(each)[:14], 16): _hash(each) for each in pictures}
        self.inputs = {"checkpoints/language": make_language(self.store)}
        start = make_internvl_c(self.store, self.inputs["checkpoints/language"], folder / "language")
        self.inputs["checkpoints/contrastive"] = start
        for name, part in (("shards/clean", 1.0), ("shards/caption_quality", 0.7), ("shards/several", 0.6)):
            kept = rng.sample(samples, round(part * len(samples)))
            self.inputs[name] = self._shards(name, kept, rng.randint(7, 30))
        given = conversations.Parameters(captions=True)
        output = Output(self.store, Ref(name="conversations", version="t"), "conversations", {})
        self.inputs["conversations"] = conversations.run(given, output, self.workspace("conversations"))

    def _shards(self, name: str, samples: list[Sample], rows: int) -> Manifest:
        output, parts = Output(self.store, Ref(name=name, version="t"), "write_shards", {}), []
        for number, start in enumerate(range(0, len(samples), rows)):
            some = samples[start : start + rows]
            files: dict[str, tuple[str, bytes | Path]] = {"tar": (f"{number:06d}.tar", tar_bytes(some))}
            ledger = Ledger(listed=len(some), kept=len(some))
            parts.append(output.part(f"{number:06d}", digest_of([key for key, _ in some]), ledger, files))
        return output.commit(parts)

    def workspace(self, name: str) -> Workspace:
        """Return all inputs, and a folder of its own."""
        return Workspace(self.store, InlineCluster(), self.folder / name, self.inputs)

    def sights(self) -> Iterator[Sight]:
        """Yield what every stage and evaluation shows and keeps aside."""
        given = {"held_out_share": self.share, "schedule": SCHEDULE}
        yield self._language(language.Parameters.model_validate({**given, "documents": 0, "vocab_size": 300}))
        for stage, module, more in (
            ("contrastive", contrastive, {"patch_size": 12, "hidden_size": 24, "intermediate_size": 48}),
            ("generative", generative, {"num_query_token": 4}),
            ("finetune", finetune, {"shards": "shards/several"}),
        ):
            yield self._pairs(stage, module, module.Parameters.model_validate({**given, **more}))
        yield self._instruct(instruct.Parameters.model_validate(given))
        yield from self._evaluations()

    def _language(self, parameters: language.Parameters) -> Sight:
        task = language.build(parameters, self.workspace("language"))
        assert isinstance(task, language.LanguageTask)
        told = {self.picture_of[text[-1].text] for text in task.held_out}
        taught = {self.picture_of[task.batches.facts(row).uid] for row in _epoch(task)}
        assert taught == {self.picture_of[text[-1].text] for text in task.batches.texts}
        return Sight("language", taught, told)

    def _pairs(self, stage: str, module: Any, parameters: Any) -> Sight:
        task = module.build(parameters, self.workspace(stage))
        rows = _epoch(task)
        shown = {self.numbers[number] for number in task.batches(rows, 0)["image_id"].tolist()}
        assert shown == {self.picture_of[task.batches.facts(row).uid] for row in rows}
        samples = task.batches.samples
        return Sight(stage, shown, {_hash(samples.read(row, "jpg")) for row in task.held_out})

    def _instruct(self, parameters: instruct.Parameters) -> Sight:
        task = instruct.build(parameters, self.workspace("instruct"))
        assert isinstance(task, instruct.InstructTask)
        taught = {self.picture_of[task.batches.facts(row).uid] for row in _epoch(task)}
        (data,) = task.batches.data
        return Sight("instruct", taught, {self.picture_of[data.facts(row).uid] for row in task.batches.aside})

    def _evaluations(self) -> Iterator[Sight]:
        for kind, name in evaluate.DATA.items():
            data, here = self.inputs[name], self.workspace(f"evaluate-{kind}")
            identity = {"parameters": {"held_out_share": self.share}, "inputs": {name: data.digest}}
            checkpoint = data.model_copy(update={"identity": identity})
            given = evaluate.Parameters.model_validate({"kind": kind, "held_out": 1000})
            data, share = evaluate.kept_aside(given, checkpoint, here)
            with _looking() as seen:
                if kind == "instruct":
                    session = ChatSession(*assemble(instruct.Parameters(), here))
                    session.ask = lambda *_: "nothing"  # type: ignore[method-assign, assignment]
                    dialogue_held_out(session, here, data, share, 1000, Findings())
                else:
                    blind: Any = SimpleNamespace(see=_look_away)
                    with suppress(_LookedAway):
                        towers_held_out(blind, here, data, share, 1000, Findings())
            yield Sight(f"evaluation of {kind}", set(), seen)


class _LookedAway(Exception):
    """A model was shown all that it is measured on."""


def _look_away(_: object) -> None:
    raise _LookedAway


@contextmanager
def _looking() -> Iterator[set[str]]:
    """Yield the pictures that are read meanwhile."""
    seen, read = set[str](), ShardedSamples.read

    def noted(self: ShardedSamples, number: int, suffix: str) -> bytes:
        data = read(self, number, suffix)
        if suffix == "jpg":
            seen.add(_hash(data))
        return data

    with patch.object(ShardedSamples, "read", noted):
        yield seen


def _epoch(task: Any) -> list[int]:
    """Return the rows of one epoch, as the loop asks for them."""
    samples = sum(source.samples for source in task.samples)
    rows = Order(0, task.samples).rows(0, samples)
    assert sorted(rows) == list(range(samples))
    return rows


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _picture(rng: random.Random) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (48, 48), (rng.randrange(256), rng.randrange(256), rng.randrange(256))).save(out, "JPEG")
    return out.getvalue() + rng.randbytes(8)  # behind the end of the picture: no two are equal by chance


def _sample(place: int, picture: bytes, rng: random.Random) -> Sample:
    uid, words = f"{rng.getrandbits(128):032x}", f"a picture, said {place} times"
    facts = {"uid": uid, "source": "drawn", "language": "en", "caption": words}
    return uid, {"jpg": picture, "txt": words.encode(), "json": json.dumps(facts).encode()}
