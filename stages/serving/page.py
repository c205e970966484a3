"""The chat page: pictures and questions in, a growing answer out, and beside it what the model sees."""

import asyncio
import html
import os
import re
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from stages.serving.conversing import WAITING, Exchange, History, go_on, pictures_of, uploaded
from stages.serving.facts_page import facts_page, headline, sight
from stages.serving.page_style import CSS, theme
from stages.serving.pictures import SeenPicture
from stages.serving.public_url import PublicUrl
from stages.serving.refusal import Refused
from stages.serving.relay import Relay
from stages.sources.questions import questions
from stages.sources.scenes import Split, draw, sample_scene

EXAMPLES = 6
KEPT_SECONDS = 3600
"""How long a conversation that nobody goes on with, and its pictures, stay."""
EMPTY = "Show a picture and ask about it, or just ask."

Changes = dict[Any, Any]


def add_page(app: FastAPI, relay: Relay, folder: Path, public: PublicUrl | None = None) -> None:
    """Give an application the chat page at `/` and the model's facts at `/facts`.

    Args:
        app: Has its other routes already: the page takes all that is left.
        relay: The way to the engine.
        folder: A private one for uploads and what is shown; they are gone with it.
        public: Where a proxy lets others in; the page then works at that address alone.
    """
    # Read when the toolkit is imported: it reports nothing, and keeps files in our folder.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    import gradio
    from gradio import processing_utils

    # The toolkit would fetch a file that a message names by an address; here only our own rules fetch.
    processing_utils.async_ssrf_protected_get = _fetch_nothing
    page = Page(relay, folder)
    # It sweeps what it was shown; files in a static folder stay.
    gradio.set_static_paths([page.scenes])

    @app.get("/facts")
    async def facts() -> HTMLResponse:
        return HTMLResponse(facts_page(relay.model))

    gradio.mount_gradio_app(
        app,
        page.blocks(),
        path="/",
        root_path=public.root if public else None,
        theme=theme(),
        css=CSS,
        footer_links=[],
        ssr_mode=False,
        max_file_size=relay.limits.picture_bytes,
        pwa=False,
        mcp_server=False,
    )


async def _fetch_nothing(url: str) -> NoReturn:
    raise ValueError(f"this page fetches nothing, and so not {url[:80]}; upload the picture")


class Page:
    """What the page shows and does; one for all who look at it, each with a conversation of their own."""

    def __init__(self, relay: Relay, folder: Path) -> None:
        """Draw examples where the model knows the drawn world; `blocks` makes the rest."""
        self._relay, self._folder, self.scenes = relay, folder, folder / "scenes"
        self.scenes.mkdir()
        self._scenes = _scenes(relay.model.image_size, self.scenes) if relay.model.drawn_world else []

    def blocks(self) -> Any:
        """Return the page's parts, each tied to what it does."""
        import gradio as gr

        with gr.Blocks(
            title=self._relay.model.name, analytics_enabled=False, fill_width=True, delete_cache=(600, KEPT_SECONDS)
        ) as page:
            self._history = gr.State((), time_to_live=KEPT_SECONDS)
            self._looked = gr.State((), time_to_live=KEPT_SECONDS)
            with gr.Row(elem_id="head"):
                gr.HTML(headline(self._relay.model), padding=False)
                anew = gr.Button("New conversation", size="sm", scale=0, min_width=160)
            with gr.Row(equal_height=False):
                with gr.Column(scale=5, min_width=300):
                    self._talk(gr)
                with gr.Column(scale=3, min_width=300):
                    self._sight(gr)
            shown = [self._history, self._looked, self._said, self._ask, self._trouble, self._tiles]
            quiet: Any = {"show_progress": "hidden", "api_visibility": "private"}
            inputs = {self._ask, self._history, self._looked}
            going = self._ask.submit(
                self.answer, inputs, shown, concurrency_limit=self._relay.limits.at_once, **quiet
            )  # fmt: skip
            self._ask.stop(self.stopped, {self._history}, shown, cancels=[going], **quiet)
            self._ask.change(self.look, inputs, shown, queue=False, trigger_mode="always_last", **quiet)
            gr.on([anew.click, self._said.clear], self.begin, None, shown, cancels=[going], **quiet)
            for number, button in enumerate(self._examples):
                button.click(partial(self.example, number), None, self._ask, **quiet)
        return page

    def _talk(self, gr: Any) -> None:
        self._said = gr.Chatbot(
            elem_id="said", show_label=False, placeholder=EMPTY, height="60vh", min_height=260, layout="bubble",
            render_markdown=False, feedback_options=None, buttons=[], group_consecutive_messages=False,
        )  # fmt: skip
        self._trouble = gr.HTML(visible=False, elem_id="trouble", padding=False)
        self._ask = gr.MultimodalTextbox(
            elem_id="ask", show_label=False, placeholder="Ask something", file_types=["image"], file_count="multiple",
            sources=["upload"], stop_btn=False, max_lines=8, autofocus=True,
        )  # fmt: skip

    def _sight(self, gr: Any) -> None:
        self._tiles = gr.HTML(sight(self._relay.model, []), elem_id="tiles", padding=False)
        self._examples = []
        if self._scenes:
            gr.HTML("<h2>Scenes it never trained on</h2>", padding=False)
        for path, question in self._scenes:
            self._examples.append(gr.Button(question, icon=path, size="md", elem_classes="scene"))

    async def answer(self, given: Changes) -> AsyncIterator[Changes]:
        """Ask what stands in the box; show the conversation while the answer grows."""
        history: History = given[self._history]
        box = given[self._ask] or {}
        text, files = (box.get("text") or "").strip(), list(box.get("files") or ())
        now, begun = history, False
        try:
            pictures = await asyncio.to_thread(uploaded, files, self._relay.limits)
            if not text and not pictures:
                raise Refused(400, "nothing was asked; write a question or add a picture")
            async for now in go_on(self._relay, history, Exchange(text, pictures)):
                # What is typed meanwhile stays; tiles are drawn once, not with every word.
                first: Changes = {}
                if not begun:
                    first = self._box(busy=True, value=None) | self._quiet()
                    first |= await asyncio.to_thread(self._seen, pictures_of(now))
                yield await asyncio.to_thread(self._conversation, now) | first
                begun = True
        except Refused as refused:
            if begun and now[-1].answer:
                yield self._box() | self._trouble_with(refused)
            else:  # what was asked goes back into the box, to be put right
                back = self._box(value={"text": text, "files": files})
                yield await asyncio.to_thread(self._conversation, history) | back | self._trouble_with(refused)
            return
        yield self._box()

    def stopped(self, given: Changes) -> Changes:
        """Keep what had been answered when the button was pressed."""
        history: History = given[self._history]
        if history and not history[-1].answer:
            history = history[:-1]
        return self._conversation(history) | self._box()

    def begin(self) -> Changes:
        """Forget the conversation."""
        return self._conversation(()) | self._box(value=None) | {self._looked: ()} | self._quiet() | self._seen([])

    async def look(self, given: Changes) -> Changes:
        """Show what the model will see of pictures that have just been added to the box, or taken from it."""
        files = tuple((given[self._ask] or {}).get("files") or ())
        if files == given[self._looked]:
            return {self._looked: files}
        try:
            pictures = await asyncio.to_thread(uploaded, files, self._relay.limits)
        except Refused as refused:
            return {self._looked: files} | self._trouble_with(refused)
        seen = await asyncio.to_thread(self._seen, pictures or pictures_of(given[self._history]))
        return {self._looked: files} | self._quiet() | seen

    def example(self, number: int) -> dict[str, Any]:
        """Return an example as it stands in the box."""
        path, question = self._scenes[number]
        return {"text": question, "files": [path]}

    def _conversation(self, history: History) -> Changes:
        view: list[dict[str, Any]] = []
        for exchange in history:
            for picture in exchange.pictures:
                view.append({"role": "user", "content": {"path": self._file(picture), "alt_text": "a picture"}})
            if exchange.question:
                view.append({"role": "user", "content": exchange.question})
            view.append({"role": "assistant", "content": exchange.answer or WAITING})
        return {self._history: history, self._said: view}

    def _seen(self, pictures: Sequence[SeenPicture]) -> Changes:
        return {self._tiles: sight(self._relay.model, pictures)}

    def _box(self, busy: bool = False, **value: Any) -> Changes:
        """Return the box with the button that fits, and with a new value where one is given."""
        import gradio as gr

        return {self._ask: gr.MultimodalTextbox(**value, submit_btn=not busy, stop_btn=busy)}

    def _trouble_with(self, refused: Refused) -> Changes:
        import gradio as gr

        # Who looks at the page sees no numbered messages.
        message = re.sub(r"messages\[\d+\]", "the conversation", refused.message)
        sentence = message[:1].upper() + message[1:]
        return {self._trouble: gr.HTML(f'<div role="alert">{html.escape(sentence)}.</div>', visible=True)}

    def _quiet(self) -> Changes:
        import gradio as gr

        return {self._trouble: gr.HTML("", visible=False)}

    def _file(self, picture: SeenPicture) -> str:
        """Return a file with a picture as we encoded it: what was uploaded is never shown to anybody."""
        path = self._folder / f"shown-{picture.digest}.png"
        if not path.exists():
            path.write_bytes(picture.png)
        return str(path)


def _scenes(image_size: int, folder: Path) -> list[tuple[str, str]]:
    """Return drawn scenes that no model is trained on, each as (file, a question about it)."""
    found = []
    for number in range(EXAMPLES):
        scene = sample_scene(0, number, Split.IID)
        path = folder / f"scene-{number}.png"
        draw(scene, image_size).save(path)
        asked = questions(scene, "en")
        found.append((str(path), asked[number % len(asked)].question))
    return found
