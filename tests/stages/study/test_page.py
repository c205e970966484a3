"""A study's page: self-contained, the paper's rows beside ours, drawings that say what they show."""

import math
import re
from html.parser import HTMLParser

from study_rows import row, trial

from stages.study.drawing import POINTS, accuracy_by_speed, curves, places_of_numbers, thinned, ticks
from stages.study.page import below_best, quantity, render, trial_words
from stages.study.parameters import Parameters
from stages.study.stability import Failure
from stages.study.summary import Trial
from stages.study.verdict import judge


def page(title: str = "Variants: variants@t", **provenance: str) -> str:
    rows = [row(2, failed=(0, 3)), row(4, failed=(0, 0), speed=700), row(6, (0.24, 0.25, 0.27), spikes=0)]
    left_out = ["d9_h32_r8: whole heads make it 64% larger than the budget, the limit is 15%"]
    return render(
        title=title, rows=rows, verdict=judge(rows), left_out=left_out, parameters=Parameters(), provenance=provenance
    )


class Reader(HTMLParser):
    """Collects what could fetch or run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)


def test_it_fetches_and_runs_nothing_and_escapes_what_it_is_given() -> None:
    text = page(title="<script>alert(1)</script>", parameters='"><img src=x onerror=alert(1)>')
    found = Reader(text)
    assert not found.tags & {"script", "img", "link", "iframe", "form"}
    assert not {name for name in found.attributes if name.startswith("on") or name in ("style", "src", "href")}
    assert "default-src 'none'" in text and "&lt;script&gt;" in text


def test_the_papers_rows_stand_beside_ours() -> None:
    text = page()
    for words in ("variant 3 (chosen)", "66.2 %", "28.0 / 64.6", "1,536 G", "2 d4_h8_r4 ★", "41.0 ± 2.5 %"):
        assert words in text, words
    assert "Left out, d9_h32_r8: whole heads make it 64% larger than the budget" in text
    assert "3 of 3 held, loss 4.10 against 4.20" in text and "2 of 3 held (learned nothing), loss 4.10" in text
    assert text.count('class="chosen"><th scope="row">2 d4_h8_r4 ★') == 2, "in both tables"


def test_the_plot_has_a_mark_with_error_bars_for_each_variant_and_a_band_of_noise() -> None:
    rows = [row(2), row(4, speed=500), row(6, (0.30, 0.31, 0.325))]
    drawn = str(accuracy_by_speed(rows, judge(rows)))
    assert drawn.count('class="error other"') == 4 and drawn.count('class="error chosen"') == 2, "two bars each"
    assert "1 d2_h8_r4 41.0 % at 1,000; 2 d4_h8_r4 41.0 % at 500" in drawn
    upright = re.findall(r'class="error other" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"', drawn)[0]
    assert upright[0] == upright[2] and upright[1] != upright[3]
    assert drawn.count('class="noise"') == 1
    wide = [row(2, (0.1, 0.9)), row(4, (0.3, 0.8))]
    tops = re.findall(
        r'<line class="error \w+" x1="[\d.]+" y1="([-\d.]+)"', str(accuracy_by_speed(wide, judge(wide)))
    )
    assert all(0 <= float(top) <= 340 for top in tops), "no bar leaves the drawing"
    alone = [row(2, (0.4,)), row(4, (0.3,))]
    assert 'class="noise"' not in str(accuracy_by_speed(alone, judge(alone))), "one seed has no noise to show"


def test_each_variant_says_how_far_it_is_from_the_best_and_whether_that_is_noise() -> None:
    rows = [row(2, (0.40, 0.41, 0.42)), row(4, (0.405, 0.42, 0.42)), row(6, (0.30, 0.31, 0.325))]
    verdict = judge(rows)
    assert [below_best(each, verdict) for each in rows] == ["≈ −0.5", "best", "−10.3"]


def test_curves_are_thinned_and_leave_out_what_is_not_finite() -> None:
    long = [float(step) for step in range(1000)]
    found = thinned(long)
    assert len(found) <= POINTS and found[0] == (4.0, 3.0) and found[-1][1] > 990
    assert thinned([1.0, math.nan, 3.0]) == [(1.0, 1.0), (3.0, 3.0)]
    assert "loss of d2_h8_r4 over 200 steps" in str(curves(row(2), 3.0, 5.0, chosen=False))
    assert "nan" not in str(curves(row(2), 3.0, 5.0, chosen=True))


def test_numbers_are_round() -> None:
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10] and ticks(0.21, 0.44) == [0.25, 0.3, 0.35, 0.4]
    assert [quantity(value) for value in (5.903e9, 312_345, 1.571e12, 12)] == ["5.9 G", "312 k", "1,571 G", "12"]


def test_a_trial_says_how_many_held_and_how_the_others_failed() -> None:
    assert trial_words(trial(4.0, 3, 0)) == "3 of 3 held, loss 4.10 against 4.20"
    assert trial_words(trial(4.0, 3, 1)) == "2 of 3 held (learned nothing), loss 4.10 against 4.20"
    assert trial_words(trial(4.0, 3, 3)) == "0 of 3 held (learned nothing)"
    failures = (Failure("not finite", 7), Failure("fell back", 30), Failure("learned nothing", 48))
    told = trial_words(Trial(16.0, failures, None, None))
    assert told == "0 of 3 held (fell back from step 30; learned nothing; not finite from step 7)"


def test_numbers_keep_clear_of_other_marks_and_of_each_other() -> None:
    alone, near, far = (100.0, 100.0), (104.0, 92.0), (400.0, 100.0)
    assert places_of_numbers([alone, far]) == [(111.0, 90.0), (411.0, 90.0)]
    crowded = places_of_numbers([alone, near, far])
    assert crowded[0] != (111.0, 90.0) and crowded[2] == (411.0, 90.0)
    for own, middle in enumerate(crowded):
        others = [each for number, each in enumerate((alone, near, far)) if number != own]
        assert all(math.dist(middle, each) >= 13 for each in (*others, *crowded[:own]))
    assert len(places_of_numbers([alone] * 9)) == 9, "where no corner is free, the freest one"
