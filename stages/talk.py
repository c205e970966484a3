"""A conversation that goes on: what was shown and said so far, and how it is put to the model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from PIL import Image

from models.chat import GREEDY
from models.preprocess import tiles_for_each
from models.sampling import Sampling
from stages.chat import MAX_NEW_TOKENS, Answer, Ask, ChatSession, Shown
from stages.chat_template import IMAGE, VIDEO, place_video, without_control_tokens


@dataclass(frozen=True)
class Scene:
    """What is shown at once: one picture, or the frames of a video."""

    pictures: tuple[Image.Image, ...]
    video: bool = False


@dataclass
class _Turn:
    question: str
    scenes: tuple[Scene, ...]
    answer: str = ""


@dataclass
class Talk:
    """One conversation with a chat model; pictures shown are about the next question and all that follow.

    Several pictures share the tiles of one, as in training, and are numbered: `Image-1: `. A frame of
    a video is one tile.
    """

    session: ChatSession
    max_new_tokens: int = MAX_NEW_TOKENS
    sampling: Sampling = GREEDY
    _turns: list[_Turn] = field(default_factory=list)
    _waiting: list[Scene] = field(default_factory=list)

    def show(self, *pictures: Image.Image) -> None:
        """Show pictures with the next question."""
        self._waiting += [Scene((each,)) for each in pictures]

    def show_video(self, frames: Sequence[Image.Image]) -> None:
        """Show the frames of a video with the next question."""
        self._waiting.append(Scene(tuple(frames), video=True))

    def clear(self) -> None:
        """Forget what was shown and said."""
        self._turns, self._waiting = [], []

    @property
    def scenes(self) -> list[Scene]:
        """All that is shown, also what waits for the next question."""
        return [scene for turn in self._turns for scene in turn.scenes] + self._waiting

    def asked(self, question: str) -> Ask:
        """Return a question as it is put to the model, with all that was shown and said before."""
        turns = [*self._turns, _Turn(question, tuple(self._waiting))]
        count = sum(not scene.video for scene in self.scenes)
        texts, numbers = [], iter(range(1, count + 1) if count > 1 else [])
        for turn in turns:
            texts.append(_marks(turn.scenes, numbers, marked=IMAGE in turn.question) + turn.question)
        limit = tiles_for_each(self.session.config.max_dynamic_patch, max(1, count))
        shown = [Shown(each, 1 if scene.video else limit) for scene in self.scenes for each in scene.pictures]
        history = [(text, turn.answer) for text, turn in zip(texts, self._turns, strict=False)]
        return Ask(texts[-1], shown, history)

    def reply(self, question: str) -> Answer:
        """Return the answer to a question, which comes as somebody iterates over it.

        Raises:
            TemplateError: The question cannot be put; nothing has changed.
        """
        return self.session.answer(self.asked(question), self.max_new_tokens, self.sampling)

    def remember(self, question: str, answer: str) -> None:
        """Take a question and what was answered so far into the conversation, marks that steer the model left out."""
        self._turns.append(_Turn(question, tuple(self._waiting), without_control_tokens(answer)))
        self._waiting = []


def _marks(scenes: Sequence[Scene], numbers: Iterator[int], marked: bool) -> str:
    """Return the lines that stand for what is shown with a question.

    Args:
        scenes: What is shown.
        numbers: Of the pictures; empty where one alone is shown, which has none.
        marked: The question says itself where its pictures stand.
    """
    lines = []
    for scene in scenes:
        if scene.video:
            lines.append(place_video(f"{VIDEO}\n", len(scene.pictures)))
            continue
        number = next(numbers, None)
        if not marked:
            lines.append(f"{IMAGE}\n" if number is None else f"Image-{number}: {IMAGE}\n")
    return "".join(lines)
