"""The results page: every benchmark of the registry, measured or not, and nothing hostile gets through."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measured_worlds import PAPER, colours
from PIL import Image
from report_pages import HOSTILE, Found

from infra.storage import Store
from stages.evaluation_metrics import measure
from stages.evaluations.base import Outcome
from stages.evaluations.choice import Choice, named_rows
from stages.evaluations.leaks import Leak
from stages.evaluations.page import _groups, results_page
from stages.evaluations.registry import Benchmark, Reported, Row, benchmarks
from stages.evaluations.results import WRITTEN, Result, Shown, publish, read_written
from stages.evaluations.row_views import TOP, Measured, class_lines, confusions, heat
from stages.evaluations.views import Board, board_of
from stages.evaluations.wording import markdown, paper, said, signed
from stages.ref import Ref
from stages.workspace import Output

COUNTS = np.array([[5, 1, 0], [3, 2, 0], [0, 0, 4]])
CLASSES = ("cat", "dog", "tree")


def result(spec: Benchmark, row: int = 0, value: float = 0.5, **more: Any) -> Result:
    """Return a measured row of a benchmark."""
    named = list(named_rows(spec))[row]
    hits = [1.0] * round(100 * value) + [0.0] * round(100 * (1 - value))
    metric = named.row.paper[0].metric if named.row.paper else "top1"
    return Result(
        name=named.name, benchmark=spec.name, title=spec.title, protocol=named.row.protocol,
        language=named.row.language, examples=100,
        **({"measures": (measure(spec.name, named.row.language, metric, hits, chance=0.1),)} | more),
    )  # fmt: skip


def page(board: Board, *rows: Measured) -> str:
    return results_page(
        title="checkpoints/contrastive@t", model="InternVL-C", board=board, measured=rows, provenance={"x": "y"}
    )


def test_every_row_of_the_registry_stands_on_the_page_with_the_papers_number() -> None:
    board = board_of("contrastive", {}, [], [])
    names = {each.name for spec in benchmarks().values() for each in named_rows(spec)}
    assert {line.name for line in board.lines if ".beyond." not in line.name} == names and board.rows == len(names)
    assert board.measured == 0 and all(line.why for line in board.lines)
    found = page(board)
    for spec in benchmarks().values():
        assert spec.title.replace("'", "&#39;").replace("&", "&") in found or spec.title in found
    assert "83.2 %" in found and "not run: its data was not given" in found and "not run: needs a chat model" in found
    assert "ImageNet-1K" in {spec.title for spec in board.missing.values()}
    assert not {"vqav2"} & set(board.missing), "a chat benchmark is not missing for towers"


def test_each_kind_is_held_against_its_own_model() -> None:
    spec = colours(rows=(
        Row(protocol="retrieval", paper=(
            Reported(model="InternVL-C", metric="recall_at_1_image_to_text", value=0.947, source="x"),
            Reported(model="InternVL-G", metric="recall_at_1_image_to_text", value=0.957, source="x"),
        )),
        Row(protocol="retrieval", settings={"queries": True}, paper=(
            Reported(model="InternVL-G", metric="recall_at_1_image_to_text", value=0.957, source="x"),
        )),
        Row(protocol="dialogue", paper=(
            Reported(model="V1", metric="mme_score", value=1586.4, source="x"),
            Reported(model="V2", metric="mme_score", value=1659.8, source="x"),
        )),
        Row(protocol="captioning", paper=(
            Reported(model="InternVL-G", metric="cider", value=1.5, source="arXiv 2312.14238"),
            Reported(model="Chat", metric="cider", value=1.2, source="arXiv 2312.14238, Table 9"),
            Reported(model="Later", metric="cider", value=1.3, source="its model card"),
            Reported(model="InternVL-G", metric="meteor", value=0.3, source="arXiv 2312.14238"),
        )),
    ))  # fmt: skip

    def lines(kind: Any) -> dict[str, Any]:
        found = board_of(kind, {}, [spec], []).lines
        return {line.name.partition(".")[2]: line for line in found if line.name.startswith("colours.")}

    towers, both, chat = lines("contrastive"), lines("generative"), lines("instruct")
    assert towers["retrieval.en"].paper.value == both["retrieval.en"].paper.value == 0.947
    assert towers["retrieval.en.2"].why == "needs InternVL-G" and not towers["retrieval.en.2"].own_model
    assert both["retrieval.en.2"].paper.value == 0.957 and both["retrieval.en.2"].own_model
    assert towers["dialogue.en"].why == "needs a chat model"
    assert paper(chat["captioning.en"]) == "120.0 % (Chat; arXiv 2312.14238, Table 9)"
    assert paper(both["captioning.en"]) == "150.0 %"
    assert chat["dialogue.en"].paper.value == 1659.8 and chat["retrieval.en"].why == "needs InternVL-C or -G"


def test_rows_of_one_benchmark_are_told_apart_by_what_differs() -> None:
    heads = [{"mode": mode, "iterations": steps, "crop_size": 96} for mode, steps in (("linear", 3), ("full", 9))]
    rows = [Row(protocol="segmentation", settings=each) for each in heads]
    rows += [Row(protocol="retrieval"), Row(protocol="retrieval", settings={"queries": True})]
    lines = board_of("generative", {}, [colours(rows=tuple(rows))], []).lines
    ways = {line.name: line.way for line in lines if line.name.startswith("colours.")}
    assert list(ways.values()) == ["mode linear, iterations 3", "mode full, iterations 9", "", "queries"]
    assert board_of("generative", {}, [colours()], []).line("colours.zero_shot_classification.en").way == ""


def test_tasks_of_which_something_was_measured_stand_first() -> None:
    spec = colours(rows=(Row(protocol="zero_shot_classification"), Row(protocol="captioning")))
    made = {(each := result(spec, value=0.9)).name: each}
    (first, lines), *others = _groups(board_of("contrastive", made, [spec], []).lines[::-1])
    assert first == "Zero-shot image classification" and any(each["ours"] for each in lines)
    assert others and not any(each["ours"] for _, some in others for each in some)


def test_differences_and_units_are_told() -> None:
    spec = colours(rows=(Row(protocol="zero_shot_classification", paper=(PAPER,)),))
    board = board_of("contrastive", {(each := result(spec, value=0.9)).name: each}, [spec], [])
    (line,) = [line for line in board.lines if not line.why]
    assert line.difference == pytest.approx(0.068) and board.measured == 1
    text = markdown(board)
    assert re.search(r"\| Plain colours \| en \| top1 \| 90\.0 % \| [\d.]+ to [\d.]+ % \| 83\.2 % \| \+6\.8 \|", text)
    assert f"1 of {board.rows} rows were measured" in text
    assert said(1586.44, "") == "1,586.4" and said(0.1234) == "12.3 %" and said(None) == "–"
    assert signed(-0.0513) == "−5.1" and signed(12.5, "points") == "+12.500"


def test_nothing_is_held_against_the_paper_that_was_not_measured_like_it() -> None:
    spec = colours(rows=(Row(protocol="zero_shot_classification", paper=(PAPER,)),))
    found = result(spec, value=0.9, departures=("limit 100", "queries True and not False"))
    board = board_of("contrastive", {found.name: found}, [spec], [])
    (line,) = [line for line in board.lines if not line.why]
    assert line.paper == PAPER and line.difference is None
    told = "limit 100; queries True and not False"
    row, *_, tail = [each for each in markdown(board).splitlines() if each]
    assert (
        "| 83.2 % | – |" in markdown(board)
        and row
        and f"no difference is told: {found.name}: limit 100" in (tail.replace("&#95;", "_"))
    )
    html = page(board, Measured(found, "/data", {}))
    assert html.count(told) == 2 and "+6.8" not in html


def test_classes_and_confusions_by_hand() -> None:
    assert [(row["name"], row["recall"], row["taken"]) for row in class_lines(CLASSES, COUNTS)] == [
        ("dog", "40.0 %", "cat (3)"), ("cat", "83.3 %", "dog (1)"), ("tree", "100.0 %", ""),
    ]  # fmt: skip
    assert [(row["right"], row["said"], row["n"], row["of"]) for row in confusions(CLASSES, COUNTS)] == [
        ("dog", "cat", 3, "60.0 %"), ("cat", "dog", 1, "16.7 %"),
    ]  # fmt: skip
    assert len(confusions([str(n) for n in range(9)], np.ones((9, 9), np.int64))) == TOP
    drawn = str(heat(CLASSES, COUNTS))
    assert drawn.count("<rect") == 5 and "dog taken for cat: 3 (60.0 %)" in drawn
    assert heat([str(n) for n in range(51)], np.eye(51, dtype=np.int64)) is None and heat(CLASSES, None) is None


def test_what_was_written_is_listed_and_its_file_is_named(store: Store) -> None:
    texts = ["<b>a \ud83d</b>" if number else None for number in range(WRITTEN + 2)]
    lines = [{"key": "k", "category": "", "prompt": "Which?", "answer": each, "right": ["a"]} for each in texts]
    output = Output(store, Ref(name="benchmarks/instruct", version="t"), "benchmark", {})
    outcome = Outcome(measures=[measure("colours", "en", "top1", [1.0, 0.0])], written=lines)
    choice = Choice(
        benchmark="colours", own=colours(), protocol="zero_shot_classification", place="/data", data="d" * 64
    )
    name = "colours.zero_shot_classification.en"
    made = output.commit([publish(output, name, choice, outcome, 2, {})])
    found = read_written(store, made, made.parts[0])
    assert found.lines == WRITTEN + 2 and len(found.first) == WRITTEN
    assert found.first[0] == lines[0] and found.first[1] == lines[1]
    assert json.loads(store.read(found.file).split(b"\n")[WRITTEN + 1]) == lines[-1]
    spec = colours()
    row = result(spec)
    html = page(board_of("instruct", {row.name: row}, [spec], []), Measured(row, "/data", {}, written=found))
    assert html.encode()
    assert f"the first {WRITTEN} of {WRITTEN + 2}" in html and found.file in html
    assert "<b>a" not in html and html.count("&lt;b&gt;a") == WRITTEN - 1, "nothing was said to the first"
    assert '<th scope="col">answer</th>' in html and '<th scope="col">category</th>' not in html
    silent = page(board_of("instruct", {row.name: row}, [spec], []), Measured(row, "/data", {}))
    assert "Written, word for word" not in silent


def test_rows_that_differ_alike_are_told_in_one_sentence() -> None:
    specs = [colours(rows=(Row(protocol="zero_shot_classification"),)), colours("paints")]
    rows = [result(spec, departures=("12 of 16 examples",)) for spec in specs]
    text = markdown(board_of("contrastive", {row.name: row for row in rows}, specs, []))
    text = text.replace("&#95;", "_")
    assert "Not as described: colours.zero_shot_classification.en: 12 of 16 examples." in text
    told = (
        "Not the paper's settings, so no difference is told: paints.zero_shot_classification.en: 12 of 16 examples."
    )
    assert told in text
    alike = [colours(name, rows=(Row(protocol="zero_shot_classification"),)) for name in ("colours", "paints")]
    rows = [result(spec, departures=("12 of 16 examples",)) for spec in alike]
    text = markdown(board_of("contrastive", {row.name: row for row in rows}, alike, []))
    names = "colours.zero_shot_classification.en, paints.zero_shot_classification.en"
    assert f"Not as described: {names}: 12 of 16 examples." in text.replace("&#95;", "_")


def test_what_datasets_and_models_say_is_never_markup() -> None:
    picture = Shown("nearest mistakes", jpeg(), tuple(("said", text) for text in HOSTILE), False)
    found = []
    for number, text in enumerate(HOSTILE):
        spec = colours(f"b{number}", title=text, homepage=text, licence=text, get=text)
        each = result(
            spec, classes=(text, "dog", "tree"), notes=(text,), facts={"prompts": text},
            unreadable={f"{number}": text}, measures=(measure(text, "en", "top1", [1.0, 0.0]),),
        )  # fmt: skip
        found.append((spec, Measured(each, text, {"x": text}, COUNTS, [picture])))
    leaks = [Leak(benchmark=text, checked=True, trained=1, said=text) for text in HOSTILE]
    results = {row.result.name: row.result for _, row in found}
    board = board_of("contrastive", results, [spec for spec, _ in found], leaks)
    html = page(board, *(row for _, row in found))
    seen = Found(html)
    assert seen.tags.count("script") == 1 and "iframe" not in seen.tags
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name in ("style", "srcdoc")]
    assert all(value is None or not value.strip().startswith("javascript") for _, value in seen.attributes)
    assert all((value or "").startswith("data:image/jpeg") for name, value in seen.attributes if name == "src")
    assert not [hex(ord(each)) for each in html if each in "\u202e\u2066\u200b\x00\x07\x1b\u2028"]


def jpeg() -> bytes:
    import io

    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, "JPEG")
    return out.getvalue()


@pytest.mark.browser
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_the_page_in_a_browser(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    spec = next(iter(benchmarks().values()))
    known = [spec, colours(), colours("shades", title="Shades")]
    values = (0.3, 0.9, 0.5)
    results = [result(each, value=value, classes=CLASSES) for each, value in zip(known, values, strict=True)]
    board = board_of("contrastive", {each.name: each for each in results}, known[1:], [])
    shown = [Shown("nearest mistakes", jpeg(), (("right", "cat"),), False)]
    path = tmp_path / "page.html"
    path.write_text(page(board, *(Measured(each, "/data", {}, COUNTS, shown) for each in results)), encoding="utf-8")
    view = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
    trouble: list[str] = []
    view.on("console", lambda message: trouble.append(message.text))
    view.on("pageerror", lambda error: trouble.append(str(error)))
    view.on("request", lambda request: trouble.append(request.url) if "http" in request.url[:5] else None)
    view.goto(path.as_uri())
    view.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert view.evaluate("document.documentElement.scrollWidth <= innerWidth")
    light = view.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(245, 247, 249)"
    assert light == (scheme == "light")

    def visible() -> list[str]:
        return view.locator("#table tbody tr:visible th a").all_inner_texts()

    assert len(visible()) == 3
    view.fill("#find", "shades top1")
    assert visible() == ["Shades"] and view.locator("#shown").inner_text().startswith("1 of ")
    view.fill("#find", "")
    view.click("[data-state=not-run]")
    assert visible() == [] and view.locator("#table tbody tr:visible").count() > 50
    view.click("[data-state=measured]")
    first = view.locator("#table .card:visible").first
    ours = first.locator("th button.sort", has_text="ours")
    for order in (sorted, lambda some: sorted(some, reverse=True)):
        ours.click()
        told = [float(each) for each in first.locator("tr:visible td[data-sort]:nth-child(4)").evaluate_all(
            "cells => cells.map(cell => cell.dataset.sort)")]  # fmt: skip
        assert told == order(told) and len(told) >= 2
    view.click("#table tbody tr:visible th a >> nth=0")
    assert view.evaluate("document.querySelector(':target').open")
    assert trouble == []
