"""`internvl whatif` and its form: numbers, words, the command that applies them, and every way to ask wrongly."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judged_store import judged_store
from typer.testing import CliRunner, Result

from filters.solver import Share
from infra.storage import Store
from pipelines import what_if as form
from pipelines.changes import rerun_steps
from pipelines.cli import app
from pipelines.names import RecipeName
from pipelines.questions import Question, ask, command_of, markdown, sentences, tables
from stages.manifest import load
from stages.ref import Ref

STRICT = "verdicts/caption_quality/laion_en@tiny"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    judged_store(Store(str(home / "store")), "laion_en", "coyo", "cc3m")
    return home


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, judged: Path) -> Path:
    monkeypatch.setenv("INTERNVL_HOME", str(judged))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("INTERNVL_STORE", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    return judged


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["whatif", *words])


def as_json(*words: str) -> list[dict[str, Any]]:
    result = call(*words, "--json")
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.output)
    return found


def test_a_moved_threshold_in_words(home: Path) -> None:
    result = call(STRICT, "--set", "length_units.min_units=8")
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    (plain,) = as_json(STRICT, "--set", "length_units.min_units=8")
    assert f"Now {plain['before']:,} of {plain['judged']:,} judged rows are kept" in text
    assert f"{plain['after']:,} (" in text and plain["before"] != plain["after"]
    assert "The paper keeps 4.69 % of what was judged; distance now" in text
    assert "Counted by the cube, exact; no row was read." in text
    assert plain["command"] in text
    assert plain["alone"] == {"length_units": plain["after"] - plain["before"]} and plain["together"] == 0
    assert {"en", "de", "zh", "unknown"} == set(plain["languages"])


def test_other_values_are_counted_by_reading_and_it_says_so() -> None:
    text = " ".join(call(STRICT, "--set", "length_units.min_units=6.1").output.split())
    assert "Counted by reading caption, language of 360 rows, because length_units.min_units=6.1 is no stop" in text


def test_more_sources_are_asked_the_same() -> None:
    found = as_json(STRICT, "--source", "coyo", "--source", "laion_en", "--set", "length_units.min_units=8")
    assert [each["source"] for each in found] == ["laion_en", "coyo"]


@pytest.mark.parametrize(
    "goal", [("--target", "0.2"), ("--budget", "40"), ("--target", "0.2", "--move", "readability")]
)
def test_a_goal_proposes_thresholds_that_then_keep_as_many(goal: tuple[str, ...]) -> None:
    (found,) = as_json(STRICT, *goal)
    proposal = found["proposal"]
    assert found["after"] == proposal["kept"]
    assert proposal["goal"] == (40 if goal[0] == "--budget" else round(0.2 * found["judged"]))
    if goal[0] == "--budget":
        assert found["after"] <= 40
    words = [word for change in found["changes"] for word in ("--set", change)]
    assert not words or as_json(STRICT, *words)[0]["after"] == found["after"]
    text = " ".join(call(STRICT, *goal).output.split())
    assert "The best of" in text or "cannot be met" in text


def test_a_goal_out_of_reach_is_explained() -> None:
    text = " ".join(call(STRICT, "--target", "1", "--move", "completeness").output.split())
    assert "rows (100.00 %) cannot be met: with any stops of completeness, between" in text
    assert "let other rules move (--move RULE)" in text


def test_the_command_applies_what_was_asked() -> None:
    (found,) = as_json(
        STRICT, "--set", "length_units.min_units=8", "--set", "policy.completeness.min_function_words=3"
    )
    words = found["command"].split()
    assert words[:3] == ["internvl", "rerun", "filter"]
    given = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
    version = words[words.index("--new-version") + 1]
    (step,) = rerun_steps("filter", RecipeName.TINY, ["laion_en"], given, "", version)
    rules = {rule["kind"]: rule for rule in step.spec.parameters["policy"]["filters"]}
    assert str(step.spec.artifact) == "verdicts/caption_quality/laion_en@tiny-moved"
    assert rules["length_units"]["min_units"] == 8 and rules["completeness"]["min_function_words"] == 3


@pytest.mark.parametrize(
    ("ref", "source", "words"),
    [
        ("verdicts/clean/own@photos", "own", "--recipe photos --source own --set policy.a.b=1 --new-version"),
        ("verdicts/clean/own@mine", "own", "--recipe photos --source own --set policy.a.b=1 --version mine"),
        ("verdicts/clean/coyo@smoke-2", "coyo", "--recipe smoke --source coyo --set policy.a.b=1 --version smoke-2"),
        (
            "verdicts/clean/coyo@v7",
            "coyo",
            "filter --source coyo --set policy.a.b=1 --version v7 --new-version v7-moved",
        ),
    ],
)
def test_the_command_names_recipe_and_version_where_they_differ(ref: str, source: str, words: str) -> None:
    assert words in command_of(Ref.model_validate(ref), source, ["a.b=1"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([STRICT], "say one thing: what to change (--set rule.field=value)"),
        ([STRICT, "--set", "a.b=1", "--target", "0.1"], "say one thing"),
        ([STRICT, "--set", "a.b=1", "--move", "completeness"], "it does not go with --set"),
        ([STRICT, "--set", "length_units"], "write it as path=value"),
        ([STRICT, "--set", "sparkle.x=1"], "has no rule 'sparkle'; its rules are length_units"),
        ([STRICT, "--set", "length_units.min_units=many"], "min_units: Input should be a valid number"),
        ([STRICT, "--target", "4.7"], "target 4.7 is no share of rows"),
        ([STRICT, "--budget", "0"], "budget 0 keeps nothing"),
        ([STRICT, "--target", "0.1", "--within", "3"], "within 3 is no share"),
        ([STRICT, "--target", "0.1", "--move", "filename"], "rule 'filename' cannot be moved"),
        (["verdicts/caption_quality/cc3m@tiny", "--target", "0.1"], "passes the step whole"),
        (["verdicts/caption_quality/cc3m@tiny", "--set", "length_units.min_units=1"], "passes this step whole"),
        (["verdicts/caption_quality/laion_en", "--target", "0.1"], "write it as name@version"),
        (["verdicts/caption_quality/laion_en@v9", "--target", "0.1"], "finished versions: tiny"),
        (["signals/laion_en@tiny", "--target", "0.1"], "what-if asks verdicts"),
        ([STRICT, "--source", "wukong", "--target", "0.1"], "verdicts/caption_quality/wukong@tiny is not in"),
    ],
)
def test_wrong_questions_are_named_with_the_next_move(words: Sequence[str], message: str) -> None:
    result = call(*words)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split()) and "Traceback" not in result.output


def test_the_form_gives_the_same_answer_as_an_artifact(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, str]] = []
    monkeypatch.setattr(form, "create_markdown_artifact", lambda text, key: made.append((key, text)))
    text = form.what_if.fn(verdicts=STRICT, changes=("length_units.min_units=8",))
    assert made == [("whatif-caption-quality-laion-en", text)]
    question = Question(changes=("length_units.min_units=8",))
    assert text == markdown(ask(Store(str(home / "store")), STRICT, question))
    assert text.startswith(f"## {STRICT}") and "internvl rerun filter" in text and len(text) < 200_000
    fields = form.what_if.parameters.properties
    assert set(fields) == {"verdicts", "changes", "target", "budget", "move", "within", "more_sources"}
    assert all(field.get("description") for field in fields.values())


def test_names_of_languages_can_break_neither_page_nor_terminal(home: Path) -> None:
    (reply,) = ask(Store(str(home / "store")), STRICT, Question(budget=10))
    assert reply.proposal
    name = "<img src=x>|[a](javascript:b)\n# x\x1b[2J\u202e"
    hostile = reply.answer.model_copy(update={"languages": {name: next(iter(reply.answer.languages.values()))}})
    losing = (Share(language=name, rows=60, before=50, after=1),)
    proposal = reply.proposal.model_copy(update={"losing": losing})
    reply = replace(reply, answer=hostile, proposal=proposal)
    text = markdown([reply])
    assert text.count("\\<img src=x\\>\\|\\[a\\](javascript:b)\\# x") == 2
    words = "".join([*sentences(reply), *(cell for table in tables(reply) for row in table.rows for cell in row)])
    assert words.count("<img src=x>") == 2
    assert not any(letter in text or letter in words for letter in "\x1b\u202e") and "\n" not in words


def test_nothing_is_changed_by_asking(home: Path) -> None:
    store = Store(str(home / "store"))
    before = sorted(store.keys(""))
    digest = load(store, Ref.model_validate(STRICT)).digest
    as_json(STRICT, "--target", "0.3")
    assert sorted(store.keys("")) == before and load(store, Ref.model_validate(STRICT)).digest == digest
