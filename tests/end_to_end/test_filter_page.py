"""The filter report in a browser: sliders count as judging anew does, nothing leaves, nothing scrolls sideways."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from report_pages import HOSTILE, Judged, judged, judged_captions

from filters.bits import BITS
from filters.policies import caption_quality
from filters.stops import movable, moved, stops_of
from filters.text import Captions
from filters.text.language import names as names_of
from filters.verdicts import give
from infra.storage import Store
from pipelines.caption_page import page_of_file
from pipelines.report_server import make_server
from stages.filter_report import page_of
from stages.ref import Ref
from stages.report.applying import Applying
from stages.report.hosts import Host
from stages.report.reviews import parse, wrong_drops
from stages.report.rows import SourceRows
from stages.workspace import Output

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
SETTINGS = 24
REAL = Path(__file__).parents[3] / "shared" / "data" / "web-alt-text.parquet"


class Opened:
    """A page in the browser, and all that it tried."""

    def __init__(self, browser: Any, folder: Path, html: str, **options: Any) -> None:
        path = folder / "report.html"
        path.write_text(html, encoding="utf-8")
        context = browser.new_context(accept_downloads=True, **options)
        self.page = context.new_page()
        self.requests: list[str] = []
        self.trouble: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.trouble.append(dialog.message), dialog.dismiss()))
        self.page.add_init_script(
            "addEventListener('securitypolicyviolation', e => console.error('violation ' + e.violatedDirective))"
        )
        self.address = path.as_uri()
        self.page.goto(self.address)

    def calm(self) -> None:
        """Assert that nothing was asked for but the page, and that nothing went wrong."""
        outside = [
            url[:80] for url in self.requests if not url.startswith((self.address, "data:image/jpeg", "blob:"))
        ]
        assert outside == [] and self.trouble == []


def kept_anew(found: Judged, settings: dict[str, int]) -> int:
    """Return how many rows are kept when all are judged again at these stops."""
    rules = [
        moved(rule, found.cube.stops[rule.reason][settings[rule.reason]]) if rule.reason in settings else rule
        for rule in found.policy.filters
    ]
    return int((give(rules, found.columns, found.size).reasons == 0).sum())


def test_sliders_count_what_judging_anew_counts(browser: Any, tmp_path: Path) -> None:
    found, rng = judged(900, seed=3), np.random.default_rng(0)
    opened = Opened(browser, tmp_path, found.page())
    page, names = opened.page, found.cube.rules
    assert int(page.locator("#kept-rows").text_content()) == found.funnel.kept
    counts = set()
    for _ in range(SETTINGS):
        some = rng.choice(len(names), rng.integers(1, 5), replace=False)
        settings = {names[at]: int(rng.integers(len(found.cube.stops[names[at]]))) for at in some}
        page.locator("#reset").click()
        for name, stop in settings.items():
            slider = page.locator(f'.slider[data-rule="{names.index(name)}"] input')
            slider.evaluate("(e, stop) => { e.value = stop; e.dispatchEvent(new Event('input')); }", stop)
        told = int(page.locator("#kept-rows").text_content())
        assert told == kept_anew(found, settings) == found.cube.kept(settings)
        counts.add(told)
    assert len(counts) > SETTINGS // 2
    opened.calm()


def test_a_proposal_travels_in_the_address_and_only_known_names_are_taken(browser: Any, tmp_path: Path) -> None:
    found = judged(400)
    opened = Opened(browser, tmp_path, found.page())
    page, stop = opened.page, found.cube.current["length_units"] + 1
    evil = "gibberish=99;constructor=1;__proto__=1;length_units=<img src=x>;nothing=1"
    page.goto(f"{opened.address}#w=laion_en;length_units={stop};{evil}")
    page.wait_for_timeout(400)
    assert int(page.locator("#kept-rows").text_content()) == found.cube.kept({"length_units": stop})
    command = page.locator("#command").text_content()
    threshold = found.cube.stops["length_units"][stop]
    assert f"--set policy.length_units.min_units={threshold:g}" in command and "--recipe tiny" in command
    form = json.loads(page.locator("#form").text_content())
    assert form["changes"] == [f"policy.length_units.min_units={threshold:g}"]
    assert form["version"] == "tiny" and form["new_version"] == "tiny-tuned"
    assert page.evaluate("location.hash") == f"#w=laion_en;length_units={stop}"
    page.goto(f"{opened.address}#w=nobody;length_units=1")
    assert int(page.locator("#kept-rows").text_content()) == found.cube.kept({"length_units": stop})
    opened.calm()


def test_sources_are_tuned_alone_or_together(browser: Any, tmp_path: Path) -> None:
    one, other = judged(300, seed=1), judged(300, seed=2)
    rows = [
        SourceRows(name, each.policy, each.funnel, 300, 300, cube=each.cube, languages=each.languages)
        for name, each in (("coyo", one), ("laion_en", other))
    ]
    applying = {
        "coyo": Applying("tiny", "v7"),
        "laion_en": Applying("tiny", "v7", ("policy.gibberish.words=[1, 2]",)),
    }
    html = page_of(
        rows,
        provenance={"artifact": "verdicts/caption_quality@v7-a"},
        galleries={"coyo": one.gallery},
        applying=applying,
    )
    opened = Opened(browser, tmp_path, html)
    page, stop = opened.page, len(one.cube.stops["length_units"]) - 1

    def then(source: int) -> str:
        return str(page.locator(f'[data-result="{source}"] [data-then]').text_content())

    def percent(found: Judged, settings: dict[str, int]) -> str:
        return f"{100 * found.cube.kept(settings) / 300:.1f} %"

    strict = {"length_units": stop}
    page.goto(f"{opened.address}#w=laion_en;length_units={stop}")
    assert [then(0), then(1)] == [percent(one, {}), percent(other, strict)]
    page.locator('[data-scope="all"]').click()
    page.locator(f'[data-sliders="0"] .slider[data-rule="{one.cube.rules.index("length_units")}"] input').evaluate(
        "(e, stop) => { e.value = stop; e.dispatchEvent(new Event('input')); }", stop
    )
    assert [then(0), then(1)] == [percent(one, strict), percent(other, strict)]
    # Two calls, because one of them has to be told what stands there already.
    threshold = f"policy.length_units.min_units={one.cube.stops['length_units'][stop]:g}"
    words = page.locator("#command").text_content().replace("\\\n", "").split("\n")
    assert [" ".join(line.split()) for line in words] == [
        applying[name].command(name, [threshold], "v7-a-tuned") for name in applying
    ]
    calls = page.locator("#form").text_content().replace("}\n{", "}\0{").split("\0")
    assert [json.loads(call) for call in calls] == [
        {"stage": "filter", "recipe": "tiny", "sources": [name], "changes": each.with_changes([threshold]),
         "version": "v7", "new_version": "v7-a-tuned"}
        for name, each in applying.items()
    ]  # fmt: skip
    opened.calm()


def test_answers_stay_in_the_browser_and_come_out_as_lines(browser: Any, tmp_path: Path) -> None:
    found = judged(400)
    opened = Opened(browser, tmp_path, found.page())
    page = opened.page
    rows = page.locator("#edge details[open] figure:not(.good) .answers")
    rows.nth(0).get_by_text("disagree", exact=True).click()
    rows.nth(1).get_by_text("agree", exact=True).click()
    page.reload()
    assert rows.nth(0).get_by_text("disagree", exact=True).get_attribute("aria-pressed") == "true"
    with page.expect_download() as download:
        page.locator("#export").click()
    text = Path(download.value.path()).read_text()
    reviews = parse(text, {"laion_en": [rule.reason for rule in found.policy.filters]}, "reviews.jsonl")
    assert [
        (each.rule, each.wrong, each.reviewed) for each in wrong_drops(reviews, ["laion_en"]) if not each.language
    ] == [("length_units", 1, 2)]
    opened.calm()


def test_chips_restrict_the_table_of_rules_to_a_language(browser: Any, tmp_path: Path) -> None:
    found = judged(600)
    opened = Opened(browser, tmp_path, found.page())
    opened.page.locator("[data-group]", has_text="de").click()
    row = opened.page.locator("[data-rule-row]").nth(0)
    rows = sum(found.languages["de"].values())
    bit = 1 << BITS[found.policy.filters[0].reason]
    hits = sum(count for mask, count in found.languages["de"].items() if mask & bit)
    assert row.locator("[data-count]").nth(0).get_attribute("title") == f"{hits:,}"
    assert opened.page.locator("#rule-rows").text_content() == f"{rows:,}"
    opened.calm()


def full_page(hostile: bool = True) -> str:
    """Return a page with all sections filled; captions and hosts are hostile."""
    texts = HOSTILE if hostile else ("calm",)
    found = judged_captions([*texts * 20, *["A picture of a dog in the park on a bench."] * 40], None)
    hosts = [Host(text, 500, 100, "not found", 300) for text in texts[:8]]
    return found.page(
        hosts=hosts, provenance={"artifact": "verdicts/caption_quality/laion_en@tiny", "clip": texts[0]}
    )


@pytest.mark.parametrize("width", [390, 768, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_scrolls_sideways_and_nothing_leaves(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    for html in (judged(500).page(), full_page()):
        assert len(html.encode()) < 1_500_000
        size = {"width": width, "height": 900}
        opened = Opened(browser, tmp_path, html, viewport=size, color_scheme=scheme)
        opened.page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        wide, inner = opened.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= inner
        background = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(245, 247, 249)" if scheme == "light" else "rgb(15, 20, 25)")
        opened.calm()
        opened.page.context.close()


def test_it_reads_without_a_script_and_prints_all_sections(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, tmp_path, judged(200).page(), java_script_enabled=False)
    assert opened.page.locator("noscript").is_visible()
    assert opened.page.locator("#rules table").first.is_visible() and not opened.page.locator("#command").is_visible()
    printed = opened.page.pdf(landscape=True)
    assert printed.startswith(b"%PDF") and printed.count(b"/Type /Page") > 3
    opened.calm()


def test_the_keyboard_alone_moves_a_slider_and_targets_are_large_on_a_phone(browser: Any, tmp_path: Path) -> None:
    found = judged(300)
    opened = Opened(browser, tmp_path, found.page(), viewport={"width": 390, "height": 800})
    slider = opened.page.locator(f'.slider[data-rule="{found.cube.rules.index("length_units")}"] input')
    slider.focus()
    opened.page.keyboard.press("ArrowRight")
    stop = found.cube.current["length_units"] + 1
    assert int(opened.page.locator("#kept-rows").text_content()) == found.cube.kept({"length_units": stop})
    threshold = found.cube.stops["length_units"][stop]
    assert slider.get_attribute("aria-valuetext") == f"at least {threshold:g} units"
    small = opened.page.evaluate(
        "[...document.querySelectorAll('button, .rail a, .slider input')].filter(e => e.offsetParent && "
        "e.getBoundingClientRect().height < 43.5).map(e => e.outerHTML.slice(0, 80))"
    )
    assert small == []
    names = opened.page.evaluate(
        "[...document.querySelectorAll('button, input, svg[role=img]')].filter(e => !(e.ariaLabel || "
        "e.textContent.trim() || e.labels?.length)).length"
    )
    assert names == 0
    opened.calm()


def test_the_report_server_lets_the_script_run_and_nothing_else(browser: Any, tmp_path: Path) -> None:
    store, found = Store(str(tmp_path / "store")), judged(200)
    output = Output(store, Ref(name="verdicts/caption_quality/laion_en", version="tiny"), "filter", {"inputs": {}})
    manifest = output.commit([], totals={}, reports={"page": ("filter-report.html", found.page().encode())})
    server = make_server("127.0.0.1", 0, store)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        opened = Opened(browser, tmp_path, found.page())
        opened.page.goto(f"http://127.0.0.1:{server.server_address[1]}/{manifest.key(manifest.reports['page'])}")
        assert int(opened.page.locator("#kept-rows").text_content()) == found.funnel.kept
        assert [text for text in opened.trouble if "favicon" not in text and "404" not in text] == []
    finally:
        server.shutdown()


@pytest.mark.skipif(not REAL.exists(), reason=f"the real captions are not at {REAL}")
@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_the_page_of_real_captions_counts_what_judging_them_anew_counts(
    browser: Any, tmp_path: Path, width: int, scheme: str
) -> None:
    captions = pq.read_table(REAL, columns=["caption"])["caption"].combine_chunks()[::25]
    columns = {
        "caption": captions,
        "language": names_of(Captions(captions)).cast(pa.string()),
        "caption_frequency": np.ones(len(captions), dtype=np.float32),
    }
    pq.write_table(pa.table(columns), tmp_path / "real.parquet")
    html = page_of_file(tmp_path / "real.parquet", "laion_en", 0.07)
    opened = Opened(browser, tmp_path, html, viewport={"width": width, "height": 844}, color_scheme=scheme)
    page, rules = opened.page, caption_quality("laion_en").filters
    movable_rules, rng = movable(rules), np.random.default_rng(width)
    counts = set()
    for _ in range(6):
        chosen = {int(at): int(rng.integers(len(stops_of(movable_rules[at])))) for at in rng.integers(0, 16, 3)}
        page.locator("#reset").click()
        settings = {}
        for at, stop in chosen.items():
            slider = page.locator(f'.slider[data-rule="{at}"] input')
            slider.evaluate("(e, stop) => { e.value = stop; e.dispatchEvent(new Event('input')); }", stop)
            settings[movable_rules[at].reason] = stops_of(movable_rules[at])[stop]
        anew = [moved(rule, settings[rule.reason]) if rule.reason in settings else rule for rule in rules]
        kept = int((give(anew, columns, len(captions)).reasons == 0).sum())
        assert int(page.locator("#kept-rows").text_content()) == kept
        counts.add(kept)
    assert len(counts) > 2
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    opened.calm()
