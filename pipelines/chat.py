"""Talk to a chat model in the terminal."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image, UnidentifiedImageError

from infra.storage import Store
from stages.chat import ChatSession
from stages.chat_template import TemplateError
from stages.manifest import ManifestError, load
from stages.ref import Ref
from stages.sources.captions import caption
from stages.sources.scenes import Split, draw, sample_scene


def open_picture(path: str | None) -> Image.Image | None:
    """Return a picture, None where none is named.

    Raises:
        ManifestError: The file is missing or no picture.
    """
    if path is None:
        return None
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise ManifestError(f"there is no picture {path}; name one that exists with --image") from None
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ManifestError(f"{path} cannot be read as a picture: {error}; name another with --image") from None


def drawn_picture(number: int) -> tuple[Image.Image, str]:
    """Return a picture of the drawn world that no model is trained on, and what it shows."""
    scene = sample_scene(0, number, Split.IID)
    return draw(scene), caption(scene, "en")


def session_of(store: Store, ref: str) -> ChatSession:
    """Load a chat model by reference.

    Raises:
        ManifestError: It does not stand or is no chat model.
    """
    manifest = load(store, Ref.model_validate(ref))
    with TemporaryDirectory(prefix="internvl-chat-") as folder:
        return ChatSession.load(store, manifest, Path(folder))


def talk(
    session: ChatSession, image: Image.Image | None, read: Callable[[], str], write: Callable[[str], None]
) -> None:
    """Answer what is read until there is no more; `/image FILE` shows another picture and starts anew."""
    history: list[tuple[str, str]] = []
    while True:
        try:
            question = read().strip()
        except (EOFError, KeyboardInterrupt):
            return
        if not question:
            continue
        if question in ("/exit", "/quit"):
            return
        try:
            if question.startswith("/image"):
                image, history = open_picture(question.removeprefix("/image").strip() or None), []
                write("(another picture)" if image else "(no picture)")
                continue
            answer = session.ask(question, image, history)
        except (TemplateError, ManifestError) as error:
            write(f"({error})")
            continue
        history.append((question, answer))
        write(answer)
