"""What every protocol is handed and what it gives back.

A *benchmark* is a dataset that the paper reports a number on; a *protocol* is how that number is measured.
A protocol is a plain function of a subject (the model), examples (the data) and its own settings; it knows no
store, no cluster and no page.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel

from models.intern_vit import InternVisionModel
from models.internvl import InternVL
from stages.chat import ChatSession
from stages.evaluation_metrics import Floats, Measure
from stages.evaluation_report import Example
from stages.evaluation_retrieval import Judge


class Question(NamedTuple):
    """Something asked about a picture, and every answer that counts as right."""

    text: str
    answers: tuple[str, ...]
    options: tuple[str, ...] = ()
    """Of a multiple choice, in their order; `answers` then holds the right option's letter."""
    category: str = ""
    """What kind of question it is, where the benchmark tells (MME's subtask, POPE's split)."""
    context: str = ""
    """What is known besides the picture and may be told (TextVQA's OCR tokens)."""


class Examples(Protocol):
    """The data of one benchmark, opened: pictures are read when they are asked for.

    What a benchmark is about decides which of the truths below it has; the others are empty.
    """

    @property
    def digest(self) -> str:
        """Return a SHA-256 over everything that can change a number: bytes, order, truths."""
        ...

    @property
    def classes(self) -> Sequence[str]:
        """Return the names of the classes in the order of their labels."""
        ...

    def __len__(self) -> int:
        """Return how many examples there are."""
        ...

    def key(self, number: int) -> str:
        """Return a name of an example that is the same wherever its dataset lies."""
        ...

    def pictures(self, number: int, frames: int = 1) -> list[Image.Image]:
        """Return what an example shows: its pictures, or `frames` moments of its video."""
        ...

    def label(self, number: int) -> int:
        """Return the number of the right class."""
        ...

    def captions(self, number: int) -> Sequence[str]:
        """Return all captions of an example."""
        ...

    def mask(self, number: int) -> npt.NDArray[np.uint8]:
        """Return the class of each pixel, shape (height, width); 255 counts nowhere."""
        ...

    def question(self, number: int) -> Question:
        """Return what is asked about an example."""
        ...


@runtime_checkable
class HasTraining(Protocol):
    """Examples that know those which a head is trained on before it is measured on them.

    Usually the dataset's own training split. For a set that has none, another's with the same classes: one head
    trained on ImageNet-1K is measured on ImageNet-A, -R, -V2, -Sketch and ReaL.
    """

    def training(self) -> Examples:
        """Return what a head is trained on.

        Raises:
            ManifestError: It is not there.
        """
        ...


@runtime_checkable
class HasClassIds(Protocol):
    """Examples whose classes have names that are unique everywhere: ImageNet's WordNet ids."""

    @property
    def class_ids(self) -> Sequence[str]:
        """Return them in the order of the labels; none where the dataset tells none."""
        ...


@runtime_checkable
class HasTemplates(Protocol):
    """What examples have besides where their dataset brings its own prompts."""

    @property
    def templates(self) -> Sequence[str]:
        """Return sentences in which {c} stands for a class."""
        ...


@runtime_checkable
class HasLabels(Protocol):
    """What examples have besides where more than one class can be right (VOC2007, ImageNet-ReaL)."""

    def right_labels(self, number: int) -> Sequence[int]:
        """Return all right classes; an example without one counts nowhere."""
        ...


class Subject(Protocol):
    """The model that is measured, loaded when it is first used, and what it has said already."""

    @property
    def name(self) -> str:
        """Return what pages call it."""
        ...

    @property
    def judge(self) -> Judge:
        """Return it as InternVL-C or -G: pictures against texts.

        Raises:
            ManifestError: It is something else.
        """
        ...

    @property
    def towers(self) -> InternVL:
        """Return the model inside `judge`."""
        ...

    @property
    def vision(self) -> InternVisionModel:
        """Return its vision tower, which every kind of model has, out of training."""
        ...

    @property
    def session(self) -> ChatSession:
        """Return it as a chat model.

        Raises:
            ManifestError: It is something else.
        """
        ...

    def remembered(self, what: str, examples: Examples, make: Callable[[], Floats]) -> Floats:
        """Return numbers about all examples (vectors of their pictures), computed once per model and data.

        Args:
            what: Names the numbers, settings that change them included: `pictures squashed 1 frame`.
            examples: What they are about; its digest and the model's are part of the key.
            make: Computes them, one row per example; of what was learnt from all of them, a head, one row per class.
        """
        ...

    def written(self, what: str, examples: Examples, make: Callable[[], list[str | None]]) -> list[str | None]:
        """Return texts about examples, written once per model and data; None where nothing could be written.

        Args:
            what: Names the texts, all that changes them included.
            examples: What they are about; its digest and the model's are part of the key.
            make: Writes them, in order.
        """
        ...

    def progress(self, done: float, total: float, unit: str) -> None:
        """Say how far a long protocol is."""
        ...


GROUP = "of_group"
"""Among an outcome's scores: the number of each example's group (`numbered`); examples of one show the same."""


def numbered(groups: Sequence[str]) -> list[float]:
    """Return the groups of examples as numbers, in the order in which they appear."""
    place = {name: float(number) for number, name in enumerate(dict.fromkeys(groups))}
    return [place[name] for name in groups]


@dataclass
class Outcome:
    """What a protocol found out about one benchmark."""

    measures: list[Measure]
    """`split` is the benchmark's name; the first measure is the one that the paper reports."""
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Per measure one value per example (a hit is 1), where the measure is their mean: two models are compared on
    equal examples by these. A measure that is no mean (CIDEr, mIoU, MME's score) gives the parts it is made of.
    Under `GROUP` stands which examples belong together."""
    ratios: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    """Measures that are the mean over columns of sum(part) / sum(whole), by name: the columns among `scores`, in
    pairs. A column whose whole is 0 does not count. Two models are compared by drawing examples of these."""
    keys: Sequence[str] = ()
    """Names of the examples, in the order of `scores`."""
    classes: Sequence[str] = ()
    confusion: npt.NDArray[np.int64] | None = None
    """Shape (classes, classes): row the right class, column the answer."""
    examples: list[Example] = field(default_factory=list)
    """Pictures for the page: near mistakes first, chosen by rule, never by hand."""
    written: Sequence[Mapping[str, Any]] = ()
    """What a model wrote, whole, in the order in which it was asked: plain values by name, `key` first."""
    notes: list[str] = field(default_factory=list)
    """Where this differs from the paper's protocol, and what a reader has to know."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Settings as they were resolved: templates used, prompts, resolution."""


class ProtocolFunction(Protocol):
    """Measures a subject on examples: `stages/evaluations/<protocol>.py` holds one, named `run`."""

    def __call__(self, subject: Subject, examples: Examples, settings: BaseModel, benchmark: str) -> Outcome:
        """Return what was found; the same model, data and settings give the same outcome.

        Raises:
            ManifestError: The data lacks what the protocol needs.
        """
        ...
