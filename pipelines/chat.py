"""A conversation in the terminal: pictures and videos from files, answers as they come, commands in between."""

import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from pipelines.converting import files_of
from stages.chat import Answer, ChatSession
from stages.chat_template import TemplateError
from stages.manifest import ManifestError
from stages.pictures import PictureError, picture_of
from stages.sources.captions import caption
from stages.sources.questions import questions
from stages.sources.scenes import Split, draw, sample_scene
from stages.talk import Talk
from stages.videos import VideoError, sample_frames

HELP = """\
/image FILE   show a picture with the next question; again for several
/video FILE   show frames of a video with the next question
/clear        forget everything that was shown and said
/help         these lines
/exit         end, as Ctrl-D does
Ctrl-C ends an answer; a second one ends the conversation."""


def open_picture(path: str) -> Image.Image:
    """Return a picture as every model is shown it.

    Raises:
        ManifestError: The file is missing or no picture.
    """
    try:
        return picture_of(Path(path).expanduser().read_bytes())
    except FileNotFoundError:
        raise ManifestError(f"there is no picture {path}; name one that exists") from None
    except (OSError, PictureError) as error:
        raise ManifestError(
            f"{path} cannot be read as a picture ({error}); name a whole JPEG, PNG, WebP, GIF or BMP"
        ) from None


def drawn_picture(number: int) -> tuple[Image.Image, str, list[str]]:
    """Return a picture of the drawn world that no model is trained on, what it shows, and what can be asked."""
    scene = sample_scene(0, number, Split.IID)
    return draw(scene), caption(scene, "en"), [each.question for each in questions(scene, "en")]


def load_session(source: str) -> ChatSession:
    """Load a chat model, a bar drawn meanwhile where somebody watches.

    Args:
        source: A folder in any layout, or an artifact `name@version`: a checkpoint or an export.

    Raises:
        ManifestError: It does not stand or is no chat model.
    """
    with files_of(source) as folder, _bar(f"loading {source}") as told:
        return ChatSession.from_folder(folder, told)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(),
        console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty(),
    ) as progress:  # fmt: skip
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def harmless(text: str) -> str:
    """Return a text without characters that steer a terminal."""
    return "".join(each for each in text if each in "\n\t" or unicodedata.category(each) != "Cc")


def speed(answer: Answer) -> str:
    """Return how long an answer took, in words."""
    line = f"{answer.prompt_tokens} tokens read in {answer.reading_seconds:.2f} s, {answer.tokens} written"
    more = answer.tokens - 1
    if more > 0 and answer.writing_seconds > 0:
        line += f" at {more / answer.writing_seconds:.1f} tokens/s"
    return line


@dataclass
class Terminal:
    """Somebody who asks, and a model that answers.

    Attributes:
        talk: The conversation.
        read: Waits for the next line; raises EOFError at the end.
        write: Shows a piece of text at once.
        note: Shows a line that is no answer.
        frames: Most frames shown of a video.
        verbose: Tell after each answer how fast it was.
        strict: What cannot be done ends the conversation, as nobody is there to say it otherwise.
    """

    talk: Talk
    read: Callable[[], str]
    write: Callable[[str], None]
    note: Callable[[str], None]
    frames: int = 8
    verbose: bool = False
    strict: bool = False

    def run(self) -> int:
        """Answer line by line until there is no more, and return how many questions that were.

        Raises:
            ManifestError, TemplateError, VideoError: What cannot be done, where the terminal is strict;
                elsewhere it is said, and the conversation goes on.
        """
        asked, interrupted = 0, False
        while True:
            try:
                line = self.read().strip()
            except EOFError:
                return asked
            except KeyboardInterrupt:
                if interrupted or self.strict:
                    return asked
                interrupted = True
                self.note("(Ctrl-C again, Ctrl-D or /exit ends)")
                continue
            if line in ("/exit", "/quit"):
                return asked
            interrupted = False
            try:
                if line.startswith("/"):
                    self.do(line)
                elif line:
                    interrupted = self.ask(line)
                    asked += 1
            except (TemplateError, ManifestError, VideoError) as error:
                if self.strict:
                    raise
                self.note(f"({error})")

    def ask(self, question: str) -> bool:
        """Put a question and write the answer as it comes; return whether Ctrl-C ended it.

        Raises:
            TemplateError: It cannot be put; the conversation is as before.
        """
        answer = self.talk.reply(question)
        interrupted = False
        try:
            for piece in answer:
                self.write(harmless(piece))
        except KeyboardInterrupt:
            interrupted = True
        if answer.text or not interrupted:
            self.talk.remember(question, answer.text)
        self.write("\n")
        if self.verbose:
            self.note(speed(answer))
        return interrupted

    def do(self, line: str) -> None:
        """Follow a command.

        Raises:
            ManifestError: It names no picture, or there is no such command.
            VideoError: It names no video.
        """
        command, _, rest = line.partition(" ")
        name = rest.strip()
        if command == "/help":
            self.note(HELP)
        elif command == "/clear":
            self.talk.clear()
            self.note("(nothing is shown, nothing was said)")
        elif command in ("/image", "/video") and not name:
            raise ManifestError(f"{command} needs a file: {command} FILE")
        elif command == "/image":
            self.talk.show(open_picture(name))
            self.note(f"({self._shown()})")
        elif command == "/video":
            self.talk.show_video(sample_frames(str(Path(name).expanduser()), self.frames))
            self.note(f"({self._shown()})")
        else:
            raise ManifestError(f"there is no command {command}; /help lists those there are")

    def _shown(self) -> str:
        scenes = self.talk.scenes
        videos = [f"a video of {len(each.pictures)} frames" for each in scenes if each.video]
        count = len(scenes) - len(videos)
        pictures = [f"{count} pictures" if count > 1 else "a picture"] if count else []
        return "shown: " + " and ".join([*pictures, *videos])
