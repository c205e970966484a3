"""The page as a whole: hostile text stays text, nothing gets in from outside, the same input gives the same bytes."""

import base64
import hashlib
import json
import re

import pyarrow as pa
import pytest
from report_pages import HOSTILE, Found, judged, judged_captions, picture

from filters.bits import BITS
from filters.funnel import Funnel, judge
from filters.policies import caption_quality, clean
from stages.filter_report import Pictured, page_of, render, summary, visible
from stages.manifest import ManifestError
from stages.planted import counts
from stages.report.difference import Difference, Moved
from stages.report.hosts import Host
from stages.report.page import data_block
from stages.report.reviews import Review, parse
from stages.report.rows import SourceRows
from stages.report.shown import Edge, Gallery, Shown
from stages.report.text import marked, rows, share, signed
from stages.report.thumbnails import thumbnail

CALM = "A picture of a dog in the park on a bench."


def everywhere(text: str) -> str:
    """Return a page with one text in every field that anybody else can fill."""
    found = judged_captions([CALM, "red", "Logo"], ["en", text[:60], text[:60]])
    answer = Review(source="laion_en", rule="length_units", uid="0" * 32, language=text[:40], kept=False, agree=False)
    row = Shown("0" * 32, text, text, kept=False, measure=1.0, picture=thumbnail(picture(40), 0.1))
    edges = (Edge("length_units", (row,), (row,), (row,), (row,), (row,), (row,)), Edge("gibberish", (row,)))
    change = Difference(
        "laion_en", text, False, 1, 1, 0, 1, 0, 3, 3, (Moved(text, text, text, 1, 0, 0, 0),), ((text, 3, 2),),
        ((row, text),),
    )  # fmt: skip
    return found.page(
        gallery=Gallery(edges, {**found.languages, text: {0: 60, 1: 60}}, 9, 3),
        hosts=[Host(text, 200, 100, text, 100)],
        changes=[change],
        reviews=[answer],
        provenance={"artifact": text, text: text},
        planted={"gibberish": counts(planted=4, hits=3, right=3, found=2)},
        planted_outcomes={"not_found": counts(planted=10, hits=10, right=10, found=10)},
    )


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_stays_text_in_every_field(text: str) -> None:
    calm, hostile = Found(everywhere("A calm text")), Found(everywhere(text))
    # Marks for invisible characters are the one element that such a text may bring.
    assert [tag for tag in hostile.tags if tag != "b"] == [tag for tag in calm.tags if tag != "b"]
    assert not [name for name, _ in hostile.attributes if name.startswith("on") or name == "style"]
    links = [value for name, value in hostile.attributes if name in ("href", "src")]
    assert all(value and (value.startswith(("#", "data:image/jpeg;base64,"))) for value in links)
    assert hostile.scripts == [{"type": "application/json", "id": "data"}, {}]


def test_only_our_own_style_and_script_may_act() -> None:
    page = judged(60).page()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    style, script = re.search(r"<style>(.*?)</style>", page, re.S), re.search(r"<script>(.*?)</script>", page, re.S)
    assert style is not None and script is not None

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    assert policy.group(1) == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest(style.group(1))}'; "
        f"script-src 'sha256-{digest(script.group(1))}'; base-uri 'none'; form-action 'none'"
    )


def test_data_cannot_leave_its_element_and_reads_back() -> None:
    value = {"text": "</script><!-- & \u2028 \u2029 <b>"}
    block = data_block(value)
    assert not set("<>&\u2028\u2029") & set(block)
    assert json.loads(block) == value


def test_the_data_of_a_page_holds_numbers_and_names_of_rules_only() -> None:
    page = everywhere("A calm text")
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert block is not None
    assert "calm" not in block.group(1) and CALM not in block.group(1)
    assert json.loads(block.group(1))["whatIf"]["sources"][0]["rules"][0]["stops"]


def test_the_same_input_gives_the_same_page_of_few_bytes() -> None:
    page = judged(600).page()
    assert page == judged(600).page()
    assert len(page.encode()) < 1_500_000


def test_invisible_characters_are_named_and_long_captions_cut() -> None:
    assert visible("\u202eabc") == "[RLO]abc"
    assert visible("\x07\ufeff\u00ad") == "[U+0007][BOM][SHY]"
    assert visible("\ud800x") == "[U+D800]x"
    assert len(visible("x" * 5000)) == 201
    assert visible("a" + "\u0301" * 50) == "a" + "\u0301" * 4
    assert marked("<b>\u200b") == '<bdi dir="auto">&lt;b&gt;<b class="mark">ZWSP</b></bdi>'


def test_addresses_and_long_numbers_are_masked() -> None:
    text = marked("Call +49 (170) 123-45-67 or write to jane.doe@example.org, 12 dogs in 2019")
    assert "170" not in text and "example" not in text and "12 dogs in 2019" in text


@pytest.mark.parametrize("start", [160, 185, 195, 199])
def test_addresses_are_masked_across_the_cut(start: int) -> None:
    text = marked("x" * (start - 1) + " jane.doe@example.org and more words" + " y" * 300)
    assert "jane" not in text and "example" not in text and text.count("…") == 1
    # What is cut stays known to be cut, also where masking leaves little.
    few = marked("+49 170 123 45 67, " * 60)
    assert "170" not in few and few.endswith("…</bdi>") and few.count("…") == 1


BIDI = "\u202e" * 12 + "evil <b>"


def test_answers_to_rows_in_a_hostile_language_can_be_read() -> None:
    row = Shown("0" * 32, "A dog", BIDI, kept=False, measure=1.0)
    page = Found(judged(60).page(gallery=Gallery((Edge("length_units", (row,)),), {}, 9, 1)))
    (language,) = {value for name, value in page.attributes if name == "data-language" and value and "RLO" in value}
    answer = {"source": "coyo", "rule": "length_units", "uid": "0" * 32, "language": language, "kept": False}
    assert (
        parse(json.dumps(answer | {"agree": True}), {"coyo": ["length_units"]}, "reviews.jsonl")[0].language
        == language
    )


def test_names_of_languages_are_shown_visibly_in_alarms_and_titles_and_not_in_markdown() -> None:
    bit = 1 << BITS["length_units"]
    for language, told in ((BIDI, "a language"), ("zh", "zh")):
        languages = {"en": {0: 9_900, bit: 100}, language: {0: 80, bit: 20}}
        funnel = Funnel(samples=10_100, kept=9_980, masks={0: 9_980, bit: 120})
        rows = SourceRows("own", caption_quality("laion_en"), funnel, 10_100, 10_100, languages=languages)
        page = page_of([rows], provenance={}, galleries={})
        assert "length_units drops captions in " in page and "\u202e" not in page
        text = summary("own", rows.policy, funnel, 10_100, 10_100, languages=languages)
        assert f"drops captions in {told} " in text and "RLO" not in text and "\u202e" not in text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (12_345, "12.3 k"),
        (999_600, "1.00 M"),
        (4.55e9, "4.55 B"),
        (974_846_953, "974.8 M"),
        (-21.3e6, "−21.3 M"),
    ],
)
def test_counts_have_three_figures_and_a_unit(count: float, text: str) -> None:
    assert rows(count) == text


def test_shares_and_signs() -> None:
    assert share(1, 0) == "–" and share(1, 3) == "33.3 %"
    assert signed(-3.44) == "−3.4 %" and signed(0.0) == "+0.0 %"


def test_the_paper_stands_beside_ours() -> None:
    text = judged_captions([CALM]).page()
    assert "83.6 %" in text and "3.9 %" in text and "4.65 – 4.73 %" in text


def test_a_ledger_that_does_not_close_makes_no_page() -> None:
    with pytest.raises(ManifestError, match="ledger does not close"):
        judged(60).page(outcomes={"fetched": 60})
    with pytest.raises(ManifestError, match="rows grow"):
        judged(60).page(fetched=20, outcomes={"fetched": 20, "not_found": 90})


@pytest.mark.parametrize("source", ["cc3m", "x" * 80, "laion_multi"])
def test_pages_without_rows_rules_or_counts_are_made_too(source: str) -> None:
    policy = caption_quality(source)
    _, funnel = judge(policy.filters, {"caption": pa.array([], pa.string())}, 0)
    page = render(
        source=source, policy=policy, funnel=funnel, listed=0, fetched=0, outcomes={}, provenance={"artifact": "a@b"}
    )
    assert "Not compared with another run" in page


def test_samples_without_a_gallery_are_shown_pixelated() -> None:
    page = judged_captions([CALM, "red"]).page(
        gallery=None, pictured=[Pictured("length_units", "red", picture(60)), Pictured("kept", CALM, None)]
    )
    assert "pixelated" in page and "data:image/jpeg;base64," in page


def test_several_sources_flow_into_one_page() -> None:
    found = judged(300)
    each = [
        SourceRows(
            name, found.policy, found.funnel, 400, 300, {"fetched": 300, "gone": 100}, found.cube, found.languages
        )
        for name in ("laion_en", "coyo")
    ]
    page = page_of(each, provenance={"artifact": "verdicts/caption_quality@tiny"}, galleries={"coyo": found.gallery})
    assert 'class="flow"' in page and "All strict sources" in page
    assert page.count("LAION-en") > 3
    assert 'class="flow"' not in found.page()


def test_the_heaviest_page_keeps_its_weight() -> None:
    found = judged(600)
    up = str.maketrans("01234567", "12345678")
    cells = {f"{n:0{len(found.cube.rules)}o}".translate(up): 1_000_000 + n for n in range(11_900)}
    cube = found.cube.model_copy(update={"cells": {"en": cells}})
    names = ("laion_en", "coyo", "laion_multi")
    each = [SourceRows(name, found.policy, found.funnel, 600, 600, {}, cube, found.languages) for name in names]
    galleries = dict.fromkeys(names, found.gallery)
    page = page_of(each, provenance={"artifact": "verdicts/caption_quality@tiny"}, galleries=galleries)
    assert page.count("<div data-sliders=") == 3
    assert len(page.encode()) < 1_500_000


def test_the_summary_is_small_markdown_without_remote_text() -> None:
    found = judged(300)
    text = summary("coyo", found.policy, found.funnel, 350, 300, cube=found.cube, version="tiny")
    assert text.startswith("### COYO, caption\\_quality: ") and "| listed | 350 |" in text and len(text) < 200_000
    assert "<details>" in text and "length\\_units" in text
    evil = summary("evil](javascript:alert(1))|x", clean(), judge(clean().filters, {}, 0)[1], 0, 0)
    assert "](javascript" not in evil
