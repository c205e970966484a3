"""A checkpoint as protocols see it: loaded when it is first used, with a memory in the store."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

import torch

from infra.scratch import scratch_folder
from infra.storage import Store
from models.intern_vit import InternVisionModel
from models.internvl import InternVL
from stages.adapters import fetch_chat
from stages.chat import ChatSession
from stages.evaluate import load_judge
from stages.evaluation_metrics import Floats
from stages.evaluation_retrieval import Judge
from stages.evaluations.base import Examples
from stages.evaluations.memory import Memory
from stages.manifest import Manifest, ManifestError
from stages.vision_tower import vision_tower

Kind = Literal["contrastive", "generative", "instruct", "vision"]
Told = Callable[[float, float, str], None]
T = TypeVar("T")

_STAGES: dict[str, Kind] = {
    "contrastive": "contrastive",
    "generative": "generative",
    "instruct": "instruct",
    "adopt": "instruct",
    "distill": "vision",
}
MODELS: dict[Kind, tuple[str, ...]] = {
    "contrastive": ("InternVL-C", "InternViT-6B"),
    "generative": ("InternVL-G", "InternViT-6B"),
    "instruct": (),
    "vision": ("InternViT-6B",),
}
"""Whose published numbers a checkpoint is held against, as the registry names models; chat models have many names."""


def silent(done: float, total: float, unit: str) -> None:
    """Tell nobody."""


def kind_of(checkpoint: Manifest) -> Kind:
    """Return what a checkpoint is.

    Raises:
        ManifestError: It is nothing that benchmarks are about.
    """
    # A tuned checkpoint keeps the name of what it was tuned from.
    stage = checkpoint.ref.name.rpartition("/")[2] if checkpoint.stage == "finetune" else checkpoint.stage
    if stage not in _STAGES:
        raise ManifestError(
            f"{checkpoint.ref} was made by stage {checkpoint.stage}; benchmarks measure what the stages "
            f"{', '.join(_STAGES)} and finetune make"
        )
    return _STAGES[stage]


class StoredSubject:
    """A checkpoint of the store; see `stages.evaluations.base.Subject` for what protocols may ask."""

    def __init__(self, store: Store, checkpoint: Manifest, batch_size: int, told: Told = silent) -> None:
        """Load nothing yet.

        Args:
            store: Where the checkpoint and what it has said lie.
            checkpoint: Its manifest.
            batch_size: Pictures or texts in the model at once.
            told: Hears how far a protocol is.
        """
        self.checkpoint, self.kind = checkpoint, kind_of(checkpoint)
        self._store, self._batch_size, self.progress = store, batch_size, told
        self._memory = Memory(store, checkpoint.digest)

    @property
    def name(self) -> str:
        """Return the checkpoint's reference."""
        return str(self.checkpoint.ref)

    @property
    def model(self) -> str:
        """Return what the paper calls this kind of model."""
        return (*MODELS[self.kind], "InternVL-Chat")[0]

    def _need(self, kinds: tuple[Kind, ...], what: str) -> None:
        if self.kind not in kinds:
            raise ManifestError(f"{self.name} is no {what}; evaluate a checkpoint of stage {' or '.join(kinds)}")

    def _fetched(self, folder: Path) -> Path:
        return fetch_chat(self._store, self.checkpoint, folder / "checkpoint")

    @cached_property
    def judge(self) -> Judge:
        """Return it as InternVL-C or -G.

        Raises:
            ManifestError: It is something else.
        """
        self._need(("contrastive", "generative"), "InternVL-C or -G")
        with scratch_folder("evaluate") as folder:
            return load_judge(self._fetched(folder), self._batch_size, self.checkpoint)

    @property
    def towers(self) -> InternVL:
        """Return the model inside `judge`."""
        return self.judge.model

    @cached_property
    def vision(self) -> InternVisionModel:
        """Return its vision tower, which every kind has, ready to look."""
        if self.kind in ("contrastive", "generative"):
            return self.towers.vision_model
        if self.kind == "instruct":
            return self.session.model.vision_model
        with scratch_folder("evaluate") as folder:
            tower = vision_tower(self._fetched(folder), self.name)
        return tower.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def session(self) -> ChatSession:
        """Return it as a chat model.

        Raises:
            ManifestError: It is something else.
        """
        self._need(("instruct",), "chat model")
        with scratch_folder("evaluate") as folder:
            return ChatSession.from_folder(self._fetched(folder))

    def remembered(self, what: str, examples: Examples, make: Callable[[], Floats]) -> Floats:
        """Return numbers about all examples, computed once per checkpoint and data.

        Args:
            what: Names the numbers, settings that change them included.
            examples: What they are about.
            make: Computes them, one row per example.
        """
        return _once(self._memory.recall, self._memory.keep, examples.digest, what, make)

    def written(self, what: str, examples: Examples, make: Callable[[], list[str | None]]) -> list[str | None]:
        """Return texts about examples, written once per checkpoint and data.

        Args:
            what: Names the texts, all that changes them included.
            examples: What they are about.
            make: Writes them, in order.
        """
        return _once(self._memory.recall_texts, self._memory.keep_texts, examples.digest, what, make)


def _once(
    recall: Callable[[str, str], T | None],
    keep: Callable[[str, str, T], None],
    digest: str,
    what: str,
    make: Callable[[], T],
) -> T:
    """Return what is remembered of some data; else what is made, and remember it."""
    what = f"{what}, {_where()}"
    known = recall(digest, what)
    if known is not None:
        return known
    made = make()
    keep(digest, what, made)
    return made


def _where() -> str:
    """Return where a model computes: a GPU does in another precision, so it does not say what this processor says."""
    return f"on {'cuda' if torch.cuda.is_available() else 'cpu'}"
