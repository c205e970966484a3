"""`internvl report`: pages of a store, with answers, beside another run, of a file; and wrong requests."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from judged_store import POLICIES, judge, judged_store, policy_of, store_signals
from typer.testing import CliRunner, Result

from filters.clip_similarity import ClipSimilarity
from filters.min_side import MinSide
from filters.policies import Policy, caption_quality
from infra.storage import Store
from pipelines import caption_files
from pipelines.cli import app
from stages.manifest import ManifestError, load
from stages.ref import Ref
from stages.report import survey
from stages.report.again import again, verdicts_at
from stages.report.difference import changed_rules

STRICT = "verdicts/caption_quality/laion_en@tiny"
COYO = "verdicts/caption_quality/coyo@tiny"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    store = judged_store(Store(str(home / "store")), "laion_en", "coyo", "cc3m")
    looser = caption_quality("laion_en", min_units=3, min_function_words=1)
    judge(store, looser, "laion_en", "loose", made_from="tiny")
    return home


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, judged: Path, tmp_path: Path) -> Path:
    monkeypatch.setenv("INTERNVL_HOME", str(judged))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.delenv("INTERNVL_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    return judged


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["report", *words])


def page(*words: str) -> str:
    result = call(*words, "--out", "page.html")
    assert result.exit_code == 0, result.output
    return Path("page.html").read_text(encoding="utf-8")


def test_one_source_and_all_sources_of_a_policy(home: Path) -> None:
    one = page(STRICT)
    manifest = load(Store(str(home / "store")), Ref.model_validate(STRICT))
    assert f"{manifest.ledger.kept:,} kept" in one and "LAION-en" in one and ">COYO<" not in one
    every = page("verdicts/caption_quality@tiny")
    assert 'class="flow"' in every and ">COYO" in every and ">CC3M" in every
    assert page(STRICT) == one
    assert call(STRICT).exit_code == 0 and Path("caption_quality-laion_en-tiny-filter-report.html").is_file()


def test_answers_are_kept_beside_the_verdicts_and_counted(home: Path) -> None:
    store = Store(str(home / "store"))
    rows = [
        {
            "source": "coyo",
            "rule": "length_units",
            "uid": f"{n:032x}",
            "language": "en",
            "kept": False,
            "agree": n > 1,
        }
        for n in range(10)
    ]
    Path("reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = page(COYO)
    assert "What reviewers say" not in before
    after = page(COYO, "--reviews", "reviews.jsonl")
    assert "2 of 10" in after and "5.7 – 51.0 %" in after
    # They stay: the page made again shows them without being told, and verdicts still verify.
    assert page(COYO, "--reviews", "reviews.jsonl") == page(COYO) == after
    assert len(store.keys("verdicts/caption_quality/coyo/tiny/reviews/")) == 1
    Path("changed.jsonl").write_text(json.dumps(rows[0] | {"agree": True}) + "\n")
    assert "1 of 10" in page(COYO, "--reviews", "changed.jsonl")  # the last answer to a row counts
    assert "2 of 10" in page(COYO, "--reviews", "reviews.jsonl")  # also where it is the first one again


def test_answers_about_several_sources_are_kept_beside_their_own_verdicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judged_store(Store(str(tmp_path / "store")), "laion_en", "coyo")
    ref = Ref.model_validate("verdicts/caption_quality@tiny")
    given = {"rule": "gibberish", "language": "en", "kept": False}
    lines = [
        given | {"source": source, "uid": f"{n:032x}", "agree": agree}
        for source, agree in (("laion_en", True), ("coyo", False))
        for n in range(4)
    ]
    Path("both.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setenv("INTERNVL_STORE", store.root)
    assert "4 of 8" in page(str(ref), "--reviews", "both.jsonl")
    assert "4 of 4" in page(COYO) and "0 of 4" in page(STRICT)
    for source in ("laion_en", "coyo"):
        assert len(store.keys(f"verdicts/caption_quality/{source}/tiny/reviews/")) == 1
    # A file of both beside one, as it was kept once, counts for that one only.
    store.write("verdicts/caption_quality/coyo/tiny/reviews/000009-x.jsonl", Path("both.jsonl").read_bytes())
    assert "4 of 4" in page(COYO)


def test_two_runs_differ_as_their_verdicts_do(home: Path) -> None:
    store = Store(str(home / "store"))

    def kept(version: str) -> set[bytes]:
        manifest = load(store, Ref(name="verdicts/caption_quality/laion_en", version=version))
        tables = [pq.read_table(store.path(manifest.key(part.files["verdicts"]))) for part in manifest.parts]
        pairs = [
            pair for table in tables for pair in zip(*(table[n].to_pylist() for n in ("uid", "reasons")), strict=True)
        ]
        return {uid for uid, mask in pairs if not mask}

    old, new = kept("loose"), kept("tiny")
    text = page(STRICT, "--against", "loose")
    assert f'title="{len(old & new):,}"' in text and f'title="{len(old - new):,}"' in text
    assert old - new and not new - old
    assert "length_units.min_units" in text and "completeness.min_function_words" in text
    assert "Same rows, same signals" in text and "of the lost, by hash" in text
    gained = page("verdicts/caption_quality/laion_en@loose", "--against", "tiny")
    assert f"+{len(old - new):,}" in gained


def test_what_changed_is_named_by_parameter() -> None:
    old, new = caption_quality("coyo"), caption_quality("coyo", min_units=7)
    assert changed_rules(old, new) == [("length_units", "length_units.min_units", "5.8", "7")]
    fewer = new.model_copy(update={"filters": new.filters[1:]})
    assert changed_rules(old, fewer) == [("length_units", "length_units", "on", "off")]
    assert changed_rules(old, old) == []


def test_a_file_of_captions(home: Path) -> None:
    lines = [f"The dog number {n} runs across a frozen lake in the snow.,en\nred {n},en\n" for n in "abcdefgh"]
    Path("mine.csv").write_text("caption,language\n" + "".join(lines))
    text = page("mine.csv")
    assert "50.0 % of rows judged are kept" in text and "Against the paper" not in text
    assert "Against the paper" in page("mine.csv", "--profile", "coyo")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.parquet"], "there is no file nothing.parquet, and it is no reference"),
        (["verdicts/clean/laion_en@other"], "finished versions: tiny"),
        (["verdicts/clean@other"], "no finished verdicts"),
        (["pool/laion_en@tiny"], "made by stage score; a report is about verdicts"),
        ([STRICT, "--against", "other"], "finished versions: loose, tiny"),
        ([STRICT, "--against", "tiny"], "cannot be compared with itself"),
        ([STRICT, "--reviews", "none.jsonl"], "there is no file none.jsonl"),
        ([STRICT, "--reviews", "bad.jsonl"], "bad.jsonl, line 2: it is no JSON"),
        ([STRICT, "--reviews", "rule.jsonl"], "line 1: no rule 'aspect' in this policy"),
        ([STRICT, "--reviews", "extra.jsonl"], "line 1: Extra inputs are not permitted"),
        (
            [COYO, "--reviews", "good.jsonl"],
            "line 1: these verdicts are not about source 'laion_en'; they are about coyo",
        ),
        (
            ["verdicts/caption_quality@tiny", "--reviews", "own.jsonl"],
            "are not about source 'own'; they are about cc3m,",
        ),
        ([STRICT, "--reviews", "empty.jsonl"], "empty.jsonl holds no answer"),
        (["mine.csv", "--reviews", "good.jsonl"], "a file of captions has neither"),
        (["mine.csv", "--profile", "bing"], "no profile 'bing'"),
        ([STRICT, "--out", "nowhere/page.html"], "nowhere is no folder"),
    ],
)
def test_wrong_requests_name_the_thing_and_the_next_move(words: list[str], message: str) -> None:
    good = {
        "source": "laion_en",
        "rule": "gibberish",
        "uid": "0" * 32,
        "language": "en",
        "kept": False,
        "agree": True,
    }
    Path("good.jsonl").write_text(json.dumps(good))
    Path("bad.jsonl").write_text(json.dumps(good) + "\n{not json\n")
    Path("rule.jsonl").write_text(json.dumps(good | {"rule": "aspect"}))
    Path("extra.jsonl").write_text(json.dumps(good | {"comment": "<script>"}))
    Path("own.jsonl").write_text(json.dumps(good | {"source": "own"}))
    Path("empty.jsonl").write_text("\n")
    Path("mine.csv").write_text("caption\nA dog\n")
    result = call(*words)
    assert result.exit_code != 0 and message in " ".join(result.output.split()), result.output


def test_verdicts_whose_signals_are_gone_say_so(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    judged_store(store, "coyo")
    store.remove("signals/coyo")
    with pytest.raises(ManifestError, match=r"was made from signals/coyo with digest .* no longer holds"):
        again(store, verdicts_at(store, Ref.model_validate("verdicts/caption_quality/coyo@tiny")))
    assert policy_of("clean", "coyo").name == "clean"


def test_a_source_of_which_nothing_is_left_has_a_page(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    store_signals(store, "coyo")
    rules = (ClipSimilarity(min_similarity=1), MinSide(min_pixels=100_000))
    judge(store, Policy(name="clean", filters=rules), "coyo")
    judge(store, caption_quality("coyo"), "coyo")
    pages = [again(store, verdicts_at(store, Ref.model_validate(f"verdicts/{name}/coyo@tiny"))) for name in POLICIES]
    assert "COYO" in pages[0] and "No row was judged" in pages[1]
    assert "The clean step kept nothing" in pages[1]


def test_a_large_file_whose_batches_are_mostly_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_files, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(survey, "ROWS_LOOKED_AT", 10)
    captions = [f"An old man is sitting on bench {n} in the park." for n in range(60)]
    pq.write_table(pa.table({"caption": captions}), "big.parquet")
    assert "60 = 10 kept + 50 rejected" in page("big.parquet")


def test_the_page_of_a_file_names_the_command_that_makes_it_again(tmp_path: Path) -> None:
    captions = ["An old man is sitting on a bench in the park.", "cheap shoes, sale", None] * 5
    pq.write_table(pa.table({"caption": captions}), tmp_path / "my captions.parquet")
    first = page("my captions.parquet", "--profile", "coyo", "--band", "0.1")
    command = "internvl report &#39;my captions.parquet&#39; --profile coyo --band 0.1"
    assert command in first and "Nothing is known of a download" in first
    assert page("my captions.parquet", "--profile", "coyo", "--band", "0.1") == first
    assert "--profile" not in page("my captions.parquet").split("Provenance")[-1]
