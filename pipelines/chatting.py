"""The command that talks to a chat model."""

import sys
from contextlib import suppress
from typing import Annotated

import typer

from pipelines.options import app
from pipelines.terminal import Refusal, clear_errors


@app.command()
def chat(
    checkpoint: Annotated[
        str, typer.Argument(help="A chat model: an artifact name@version, or a folder in any layout.")
    ] = "checkpoints/instruct@tiny",
    image: Annotated[
        list[str] | None, typer.Option("--image", help="A picture to talk about; may be given again.")
    ] = None,
    video: Annotated[
        list[str] | None, typer.Option("--video", help="A video to talk about; may be given again.")
    ] = None,
    frames: Annotated[int, typer.Option("--frames", min=1, help="Most frames shown of a video.")] = 8,
    scene: Annotated[
        int | None, typer.Option("--scene", min=0, help="A picture of the drawn world, by number, never trained on.")
    ] = None,
    question: Annotated[str | None, typer.Option("--question", help="Ask this one question and end.")] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Most tokens of an answer.")] = 512,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0, help="0 says what is likeliest; above, answers are drawn.")
    ] = 0.0,
    top_p: Annotated[
        float, typer.Option("--top-p", min=0, max=1, help="Draw among the likeliest tokens that add up to this.")
    ] = 1.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed draws the same answers.")] = 0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell how fast each answer came.")] = False,
) -> None:
    """Talk to a chat model about pictures and videos.

    Without --question, until Ctrl-D; /help lists what else can be typed.
    Questions may be piped in, one a line.
    """
    with clear_errors():
        if top_p < 1 and temperature == 0:
            raise Refusal("--top-p draws nothing at temperature 0; add --temperature 0.7, or leave it out")
        from models.sampling import Sampling
        from pipelines.chat import Terminal, drawn_picture, load_session, open_picture
        from stages.talk import Talk
        from stages.videos import sample_frames

        sampling = Sampling(temperature=temperature, top_p=top_p, seed=seed)
        pictures = [open_picture(each) for each in image or []]
        if scene is not None:
            picture, caption, known = drawn_picture(scene)
            pictures.append(picture)
            _note(f"scene {scene} shows: {caption}")
            if question is None:
                _note(f"what models of this world learn to answer: {' '.join(known)}")
        videos = [sample_frames(each, frames) for each in video or []]
        talk = Talk(load_session(checkpoint), max_new_tokens, sampling)
        talk.show(*pictures)
        for each in videos:
            talk.show_video(each)
        watched = sys.stdin.isatty()
        terminal = Terminal(talk, _line if watched else input, _write, _note, frames, verbose, strict=not watched)
        if question is not None:
            terminal.ask(question)
            return
        if watched:
            _note("ask away; /help lists the commands, Ctrl-D ends")
        if not terminal.run() and not watched:
            raise Refusal("no question came in; pipe one, or give it with --question")


def _line() -> str:
    """Ask for a line that can be edited, earlier ones brought back with the arrows."""
    with suppress(ImportError):  # some builds of Python have none
        import readline  # noqa: F401  (importing it is what makes `input` do so)
    return input("> ")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _note(text: str) -> None:
    """Show what is no answer beside the answers: whoever pipes them on does not get it."""
    typer.secho(text, err=True, dim=True)
