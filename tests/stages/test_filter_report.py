from html.parser import HTMLParser

import numpy as np
import pyarrow as pa

from filters.funnel import judge
from filters.policies import caption_quality
from stages.filter_report import Pictured, render, summary, visible
from stages.planted import counts

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "</style><svg onload=alert(1)>",
    "{{ 7 * 7 }} {% raw %}",
    "\u202egpj.exe\u2066 hidden \u200b zero",
    "a" + "\u0301" * 50,
    "x" * 5000,
]


class Collector(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def page(captions: list[str]) -> str:
    policy = caption_quality("laion_en")
    columns = {
        "caption": pa.array(captions),
        "language": pa.array(["en"] * len(captions)),
        "caption_frequency": np.ones(len(captions), dtype=np.float32),
    }
    _, funnel = judge(policy.filters, columns, len(captions))
    return render(
        source="laion_en",
        policy=policy,
        funnel=funnel,
        listed=100,
        fetched=90,
        outcomes={"fetched": 90, "not_found": 10},
        pictured=[Pictured(label="kept", caption=text, jpg=b"\xff\xd8") for text in captions]
        + [Pictured(label="unsafe", caption="hidden", jpg=None)],
        planted={"gibberish": counts(planted=4, hits=3, right=3, found=2)},
        planted_outcomes={"not_found": counts(planted=10, hits=10, right=10, found=10)},
        provenance={"artifact": "verdicts/caption_quality/laion_en@v1"},
    )


def test_hostile_captions_stay_text() -> None:
    calm, hostile = Collector(), Collector()
    calm.feed(page(["A picture of a dog in the park on a bench."] * len(HOSTILE)))
    hostile.feed(page(HOSTILE))
    assert set(hostile.tags) <= set(calm.tags)
    assert "script" not in hostile.tags
    assert not [name for name, _ in hostile.attributes if name.startswith("on") or name == "style"]
    assert not [value for _, value in hostile.attributes if value and "javascript:" in value]


def test_the_page_carries_a_policy_that_allows_nothing_but_its_own_style() -> None:
    assert "default-src 'none'; img-src data:; style-src 'sha256-" in page(["x"]).replace("&#39;", "'")


def test_invisible_characters_are_named_and_long_captions_cut() -> None:
    assert visible("\u202eabc") == "[RLO]abc"
    assert visible("\x07") == "[U+0007]"
    assert len(visible("x" * 5000)) == 201
    assert visible("a" + "\u0301" * 50) == "a" + "\u0301" * 4


def test_the_paper_stands_beside_ours_and_the_same_input_gives_the_same_page() -> None:
    text = page(["A picture of a dog in the park on a bench."])
    assert "83.6 %" in text and "3.9 %" in text
    assert text == page(["A picture of a dog in the park on a bench."])


def test_the_summary_is_small_markdown() -> None:
    policy = caption_quality("coyo")
    _, funnel = judge(policy.filters, {"caption": pa.array([], pa.string())}, 0)
    text = summary("coyo", policy, funnel, 10, 9)
    assert text.startswith("### coyo") and "| listed | 10 |" in text and len(text) < 100_000
