"""The command that puts a chat model behind an OpenAI-compatible endpoint and a chat page."""

from typing import Annotated

import typer

from infra.settings import settings
from infra.storage import Store
from pipelines.options import AllowHost, app
from pipelines.terminal import Refusal, clear_errors, console
from stages.serving.names import LOOPBACK, EngineName

LEAST_TOKEN = 16


@app.command()
def serve(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="checkpoints/instruct@VERSION, exports/instruct@VERSION, or a folder with an exported chat model."
        ),
    ],
    engine: Annotated[
        EngineName, typer.Option("--engine", help="What computes; auto is vLLM where it and a GPU are there.")
    ] = EngineName.AUTO,
    device: Annotated[str, typer.Option("--device", help="For transformers: auto, cpu or cuda:0.")] = "auto",
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; one that others can reach needs --token.")
    ] = LOOPBACK[0],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 18700,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="INTERNVL_SERVE_TOKEN",
            show_default=False,
            help="What clients have to know; random, and printed once, when left out. Others on this machine see the "
            "words of a command: better set INTERNVL_SERVE_TOKEN.",
        ),
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(
            "--public-url",
            show_default=False,
            help="Where a proxy in front lets others in, such as https://host/prefix; the page works there alone.",
        ),
    ] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Serve the chat page too.")] = True,
    most_tokens: Annotated[
        int, typer.Option("--most-tokens", min=1, help="Most tokens of an answer that a client may ask for.")
    ] = 1024,
    most_pictures: Annotated[
        int, typer.Option("--most-pictures", min=1, help="Most pictures of one conversation.")
    ] = 8,
    at_once: Annotated[
        int, typer.Option("--at-once", min=1, help="Most requests being answered or waiting; later ones get a 429.")
    ] = 8,
    allow_host: AllowHost = None,
    start_seconds: Annotated[
        float, typer.Option("--start-seconds", min=1, help="How long the engine may take to load the model.")
    ] = 900,
) -> None:
    """Serve a chat model: an OpenAI-compatible endpoint with pictures, and a page to talk to it.

    The endpoint is at /v1 (models, chat/completions, streamed or not), the page
    at /. A checkpoint is exported first where it is not yet. Ctrl-C ends all.
    """
    with clear_errors():
        if host not in LOOPBACK and token is None:
            raise Refusal(
                f"--host {host} lets others reach the server: choose what they have to know with --token or "
                "INTERNVL_SERVE_TOKEN, or leave --host out"
            )
        if token is not None and (len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable()):
            raise Refusal(f"the token is to have {LEAST_TOKEN} printable ASCII characters at least")
        from stages.serving.exported import served, tidy
        from stages.serving.limits import Limits
        from stages.serving.public_url import PublicUrl
        from stages.serving.server import Address, Server, ends_when_told

        ends_when_told()  # exporting, too, leaves nothing behind
        public = PublicUrl.of(public_url) if public_url else None
        here = settings()
        limits = Limits(
            answer_tokens=most_tokens,
            usual_answer_tokens=min(most_tokens, Limits().usual_answer_tokens),
            pictures=most_pictures,
            at_once=at_once,
            allow_hosts=tuple(allow_host or ()),
        )
        cache = here.home / "serving"
        model = served(checkpoint, Store(here.store_root), cache)
        try:
            server = Server(model, limits, Address(host, port, token, public), engine, device, page=page)
            server.run(start_seconds, lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True))
        finally:
            tidy(model, cache)
