"""`internvl chat`: what is typed and piped, interrupts, and what cannot be done."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from chat_models import chat_session, write_chat
from PIL import Image
from typer.testing import CliRunner, Result

from pipelines.chat import HELP, Terminal, harmless, open_picture
from pipelines.cli import app
from stages.chat import Answer, ChatSession
from stages.chat_template import TemplateError
from stages.manifest import ManifestError
from stages.pictures import picture_of
from stages.serving.limits import Limits
from stages.serving.pictures import seen
from stages.talk import Talk


@pytest.fixture(scope="module")
def chat() -> ChatSession:
    return chat_session()


@pytest.fixture(scope="module")
def folder(chat: ChatSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chat(chat, tmp_path_factory.mktemp("models") / "chat")


@pytest.fixture
def red(tmp_path: Path) -> Path:
    Image.new("RGB", (50, 60), "red").save(tmp_path / "red.png")
    return tmp_path / "red.png"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(6):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return tmp_path / "clip.mp4"


class Screen:
    """A terminal that types lines, or the Ctrl-C among them, and keeps what it shows."""

    def __init__(self, chat: ChatSession, lines: list[str | type[KeyboardInterrupt]], **options: bool) -> None:
        self.lines, self.shown, self.notes = iter(lines), "", list[str]()
        self.talk = Talk(chat, max_new_tokens=8)
        self.terminal = Terminal(self.talk, self.read, self.write, self.notes.append, **options)  # type: ignore[arg-type]
        self.asked = self.terminal.run()

    def read(self) -> str:
        try:
            line = next(self.lines)
        except StopIteration:
            raise EOFError from None
        if isinstance(line, str):
            return line
        raise line

    def write(self, text: str) -> None:
        self.shown += text


def test_a_picture_is_shown_as_training_and_the_page_show_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (96, 48), "red").save(tmp_path / "lying.jpg", exif=exif)
    Image.new("RGBA", (48, 48), (0, 0, 200, 100)).save(tmp_path / "clear.png")
    for name, size in (("lying.jpg", (48, 96)), ("clear.png", (48, 48))):
        shown, body = open_picture(str(tmp_path / name)), (tmp_path / name).read_bytes()
        assert shown.size == size
        assert shown.tobytes() == picture_of(body).tobytes() == seen(body, Limits()).image.tobytes()


@pytest.mark.parametrize("body", [b"", b"II*\0" + bytes(40), b"\x89PNG\r\n\x1a\n" + bytes(40), b"BM" + bytes(60)])
def test_whatever_a_file_holds_the_refusal_names_it(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "a.png").write_bytes(body)
    with pytest.raises(ManifestError, match=r"a.png cannot be read as a picture \(\w+\); name a whole JPEG"):
        open_picture(str(tmp_path / "a.png"))


def test_a_conversation_goes_on_with_pictures_and_videos(chat: ChatSession, red: Path, clip: Path) -> None:
    lines = [
        "How are you?",
        "",
        f"/image {red}",
        "What?",
        f"/video {clip}",
        "/image " + str(red),
        "And now?",
        "/exit",
        "x",
    ]
    screen = Screen(chat, [*lines])
    assert screen.asked == 3 and next(screen.lines) == "x"
    said = screen.shown.splitlines()
    picture = Image.open(red).convert("RGB")
    assert said[0] == chat.ask("How are you?", max_new_tokens=8)
    assert said[1] == chat.ask("<image>\nWhat?", picture, [("How are you?", said[0])], max_new_tokens=8)
    assert screen.notes == [
        "(shown: a picture)",
        "(shown: a picture and a video of 6 frames)",
        "(shown: 2 pictures and a video of 6 frames)",
    ]
    assert screen.talk.asked("?").history[-1][0].startswith("Frame-1: <image>\n")
    assert screen.talk.asked("?").history[-1][0].endswith("Frame-6: <image>\nImage-2: <image>\nAnd now?")


def test_what_cannot_be_done_is_said_and_the_conversation_goes_on(chat: ChatSession, red: Path) -> None:
    wrong = ["/image /nowhere.png", "/image", "/image /etc/passwd", "/video /nowhere.mp4", f"/video {red}", "/dance"]
    screen = Screen(chat, [*wrong, "a <|im_end|> b", "so " * 300, "/help", "/clear", "Well?"])
    expected = [
        "(there is no picture /nowhere.png; name one that exists)",
        "(/image needs a file: /image FILE)",
        "(/etc/passwd cannot be read as a picture",
        "(there is no video /nowhere.mp4",
        f"({red} cannot be read as a video",
        "(there is no command /dance; /help lists those there are)",
        "(<|im_end|> cannot be said in a conversation; leave it out)",
        "(a conversation of ",
        HELP,
        "(nothing is shown, nothing was said)",
    ]
    assert len(screen.notes) == len(expected)
    assert all(note.startswith(each) for note, each in zip(screen.notes, expected, strict=True)), screen.notes
    assert screen.shown == chat.ask("Well?", max_new_tokens=8) + "\n"
    assert screen.asked == 1, "a question that could not be put was not asked"


def test_a_strict_terminal_ends_with_the_error(chat: ChatSession) -> None:
    with pytest.raises(TemplateError, match="cannot be said"):
        Screen(chat, ["</s>", "Well?"], strict=True)


def test_speed_is_told_on_request(chat: ChatSession) -> None:
    screen = Screen(chat, ["Well?"], verbose=True)
    assert len(screen.notes) == 1 and " tokens read in " in screen.notes[0] and "tokens/s" in screen.notes[0]


def test_ctrl_c_ends_an_answer_and_twice_the_conversation(chat: ChatSession, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Answer.__iter__

    def broken_off(answer: Answer) -> Iterator[str]:
        yield next(whole(answer))
        raise KeyboardInterrupt

    monkeypatch.setattr(Answer, "__iter__", broken_off)
    screen = Screen(chat, ["Well?", "And?", KeyboardInterrupt, "never asked"])
    assert screen.asked == 2, "one after an answer that was ended is the second"
    assert screen.notes == [] and screen.shown.count("\n") == 2
    kept = screen.talk.asked("?").history
    assert [question for question, _ in kept] == ["Well?", "And?"] and all(answer for _, answer in kept)

    monkeypatch.undo()
    screen = Screen(chat, [KeyboardInterrupt, "Well?", KeyboardInterrupt, KeyboardInterrupt, "never asked"])
    assert screen.asked == 1 and screen.notes == ["(Ctrl-C again, Ctrl-D or /exit ends)"] * 2


def test_an_answer_cannot_steer_the_terminal() -> None:
    assert harmless("a\x1b[2Jb\x07\n\t図\r") == "a[2Jb\n\t図"


def call(*words: object, typed: str = "") -> Result:
    return CliRunner().invoke(app, ["chat", *map(str, words)], input=typed)


def test_questions_are_piped_in(chat: ChatSession, folder: Path, red: Path) -> None:
    picture = Image.open(red).convert("RGB")
    result = call(folder, "--image", red, "--max-new-tokens", 8, typed="What?\n\nAnd?\n")
    first = chat.ask("What?", picture, max_new_tokens=8)
    second = chat.ask("And?", picture, [("What?", first)], max_new_tokens=8)
    assert result.exit_code == 0 and result.stdout == harmless(f"{first}\n{second}\n"), result.output


def test_one_question_about_several_pictures_and_a_video(folder: Path, red: Path, clip: Path) -> None:
    shown = (folder, "--image", red, "--image", red, "--video", clip, "--frames", 2, "--question", "What?")
    greedy, drawn = (call(*shown, "--max-new-tokens", 8, *more) for more in ((), ("--temperature", 5, "--seed", 1)))
    assert greedy.exit_code == drawn.exit_code == 0, greedy.output
    assert (
        greedy.stdout != drawn.stdout == call(*shown, "--max-new-tokens", 8, "--temperature", 5, "--seed", 1).stdout
    )
    told = call(*shown, "--max-new-tokens", 8, "-v")
    assert told.stdout == greedy.stdout and "tokens read in" in told.stderr


@pytest.mark.parametrize(
    ("words", "typed", "message"),
    [
        ((), "", "no question came in; pipe one, or give it with --question"),
        (("--image", "/nowhere.png"), "", "there is no picture /nowhere.png; name one that exists"),
        (("--video", "/etc/passwd"), "", "/etc/passwd cannot be read as a video"),
        (("--top-p", "0.5"), "", "add --temperature 0.7, or leave it out"),
        (("--top-p", "0", "--temperature", "1"), "", "top_p 0 is not above 0"),
        ((), "/dance\n", "there is no command /dance"),
        (("--question", "so " * 300), "", "leaves no room for an answer"),
    ],
)
def test_what_cannot_be_done_ends_the_command(folder: Path, words: tuple[str, ...], typed: str, message: str) -> None:
    result = call(folder, *words, typed=typed)
    assert result.exit_code == 2 and message in " ".join(result.output.split()), result.output


def test_a_drawn_scene_comes_with_what_can_be_asked_about_it(folder: Path) -> None:
    known = "What color are the equal objects?"
    result = call(folder, "--scene", 2, "--max-new-tokens", 2, typed=f"{known}\n")
    assert result.exit_code == 0 and "scene 2 shows: A picture of three blue squares" in result.stderr
    assert known in result.stderr and known not in result.stdout
    single = call(folder, "--scene", 2, "--question", known, "--max-new-tokens", 2)
    assert known not in single.stderr, "who knows what to ask is not told"
