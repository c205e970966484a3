"""A chat model that answers by rule, for tests of what is asked and how answers are counted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from PIL import Image
from worlds import COLOURS

from stages.chat import Ask, ChatSession
from stages.chat_template import TemplateError
from stages.evaluation_metrics import Floats
from stages.evaluations.base import Examples
from stages.manifest import ManifestError


def colour_of(picture: Image.Image) -> str:
    """Return which of the colours a picture is nearest to."""
    mean = picture.resize((1, 1)).getpixel((0, 0))
    assert isinstance(mean, tuple)
    return min(COLOURS, key=lambda each: sum(abs(a - b) for a, b in zip(COLOURS[each], mean, strict=True)))


@dataclass
class Scripted:
    """A session whose answers a function gives; a question with `too long` in it does not fit."""

    says: Callable[[Ask], str]
    asked: list[Ask] = field(default_factory=list)
    given: dict[str, Any] = field(default_factory=dict)

    def ask_many(self, asks: Sequence[Ask], **given: Any) -> list[str]:
        self.given = given
        if any("too long" in each.question for each in asks):
            raise TemplateError("a conversation of 900 tokens leaves no room for an answer")
        self.asked += asks
        return [self.says(each) for each in asks]


@dataclass
class Talker:
    """A subject that is a chat model."""

    session: ChatSession | Scripted
    name: str = "talker"
    told: list[tuple[float, float, str]] = field(default_factory=list)
    kept: dict[tuple[str, str], list[str | None]] = field(default_factory=dict)

    @property
    def judge(self) -> NoReturn:
        raise ManifestError(f"{self.name} is no InternVL-C or -G")

    @property
    def towers(self) -> NoReturn:
        raise ManifestError(f"{self.name} is no InternVL-C or -G")

    def remembered(self, what: str, examples: Examples, make: Callable[[], Floats]) -> Floats:
        return make()

    def written(self, what: str, examples: Examples, make: Callable[[], list[str | None]]) -> list[str | None]:
        key = (what, examples.digest)
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]

    def progress(self, done: float, total: float, unit: str) -> None:
        self.told.append((done, total, unit))
