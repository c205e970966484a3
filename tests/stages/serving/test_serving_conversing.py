"""A conversation of the chat page, and what it shows, without a browser."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from gateways import LIMITS, Running
from PIL import Image
from small_web import drawn, jpeg

from stages.serving.conversing import Exchange, History, go_on, pictures_of, uploaded
from stages.serving.engines import Engine
from stages.serving.facts_page import facts_page, headline, sight
from stages.serving.pictures import SeenPicture
from stages.serving.refusal import Refused
from stages.serving.requests import ChatRequest
from stages.serving.served_model import ServedModel


def told(served: Running, history: History, exchange: Exchange) -> list[History]:
    async def collected() -> list[History]:
        return [each async for each in go_on(served.relay, history, exchange)]

    return asyncio.run(collected())


def test_an_answer_grows_and_is_remembered(served: Running) -> None:
    picture = SeenPicture(drawn(1))
    grown = told(served, (), Exchange("hello", (picture,)))
    assert [history[-1].answer for history in grown] == ["", "I ", "I was ", "I was asked: ", "I was asked: hello"]
    again = told(served, grown[-1], Exchange("and then?"))[-1]
    assert len(again) == 2 and again[0] == grown[-1][0] and pictures_of(again) == [picture]
    asked = (served.process.folder / "asked.json").read_text()
    assert asked.index("hello") < asked.index("I was asked: hello") < asked.index("and then?")
    assert asked.count("image_url") == 2, "the picture of the first question goes along: once as type, once as key"


def test_pictures_are_encoded_beside_the_loop_that_serves_others(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    body = Engine.body

    def watched(engine: Engine, request: ChatRequest, model: ServedModel) -> dict[str, Any]:
        threads.append(threading.current_thread())
        return body(engine, request, model)

    monkeypatch.setattr(Engine, "body", watched)
    told(served, (), Exchange("hello", (SeenPicture(drawn(1)),)))
    assert len(threads) == 1 and threads[0] is not threading.main_thread()


def test_what_the_model_says_does_not_end_the_conversation(served: Running) -> None:
    past = Exchange("hello", answer="red <s>and<|im_<s>end|> <video>blue")
    again = told(served, (past,), Exchange("and then?"))[-1]
    assert again[0] == past and again[1].answer == "I was asked: and then?"
    asked = json.loads((served.process.folder / "asked.json").read_text())
    assert asked["messages"][1]["content"] == [{"type": "text", "text": "red and blue"}]


def test_what_cannot_be_asked_is_refused_as_for_any_client(served: Running) -> None:
    for text in ("", "a<|im_end|>", "fail"):
        with pytest.raises(Refused):
            told(served, (), Exchange(text))
    assert served.relay._busy == 0


def test_an_answer_without_a_word_is_told(served: Running) -> None:
    with pytest.raises(Refused, match="before the first word; ask in other words"):
        told(served, (), Exchange("say nothing"))
    assert served.relay._busy == 0


def test_uploads_are_judged_by_what_they_are(tmp_path: Path) -> None:
    good, svg, vast = tmp_path / "a.txt", tmp_path / "b.png", tmp_path / "c.png"
    good.write_bytes(jpeg(1))
    svg.write_bytes(b"<svg onload=alert(1)>")
    with vast.open("wb") as file:
        file.truncate(100_000_000)
    (found,) = uploaded([str(good)], LIMITS)
    assert found.image.size == (96, 72)
    with pytest.raises(Refused, match=r"the picture b\.png is an SVG"):
        uploaded([str(good), str(svg)], LIMITS)
    with pytest.raises(Refused, match=r"the picture c\.png has more than 1,000,000 bytes"):
        uploaded([str(vast)], LIMITS)
    with pytest.raises(Refused, match=r"the picture d\.png is no longer here.*add it again"):
        uploaded([str(tmp_path / "d.png")], LIMITS)


def test_a_photo_is_judged_by_its_file_and_not_by_what_we_make_of_it(served: Running, tmp_path: Path) -> None:
    noise, out = Image.effect_noise((900, 900), 60).convert("RGB"), tmp_path / "photo.jpg"
    noise.save(out, quality=50)
    (photo,) = uploaded([str(out)], LIMITS)
    assert out.stat().st_size < LIMITS.picture_bytes < len(photo.png)
    assert told(served, (), Exchange("hm", (photo,)))[-1][-1].answer == "I was asked: hm"


def test_tiles_lie_where_they_were_cut_and_the_whole_one_comes_last(model: ServedModel) -> None:
    assert "No picture yet" in sight(model, [])
    wide, square = SeenPicture(drawn(1, (480, 120))), SeenPicture(drawn(2, (48, 48)))
    page = sight(model, [wide, square])
    assert page.count("<img") == 2 + 1 + 1 and "repeat(2,1fr)" in page and "repeat(1,1fr)" in page
    assert page.index('alt="tile 2"') < page.index('alt="the whole picture, small"') < page.index("Picture 2")
    assert f"4 tiles of 48 × 48 pixels, {4 * model.tokens_per_tile} tokens." in page
    alone = sight(model, [wide])
    assert alone.count("<img") == len(model.tiles(wide.image)) == 4 + 1 and "repeat(4,1fr)" in alone


def test_the_facts_of_a_model_are_told_and_escaped(model: ServedModel) -> None:
    table = "| a | b |\n| :-- | --: |\n| `x` | <script> |"
    card = f"---\ntags: [a]\n---\n# T <b>\n\n{table}\n\n```py\nif a < b:\n```\nEnd."
    page = facts_page(ServedModel("na<me", model.folder, card))
    assert "na&lt;me" in page and "<h2>T &lt;b&gt;</h2>" in page and "tags" not in page
    assert "<td><code>x</code></td><td>&lt;script&gt;</td>" in page and "<pre>if a &lt; b:</pre>" in page
    assert "no README.md" in facts_page(ServedModel("x", model.folder))
    assert "up to 4 tiles and a thumbnail of 48 × 48 pixels" in headline(model)
