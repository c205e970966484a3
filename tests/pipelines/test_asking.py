"""`internvl whatif` and its form: numbers, words, the command that applies them, and every way to ask wrongly."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judged_store import judge, judged_store, store_signals
from typer.testing import CliRunner, Result

from filters.policies import caption_quality, clean
from filters.solver import Share
from infra.cluster import InlineCluster
from infra.storage import Store
from pipelines import what_if as form
from pipelines.changes import rerun_steps
from pipelines.cli import app
from pipelines.names import RecipeName
from pipelines.questions import Question, ask, command_of, markdown, sentences, tables
from stages.manifest import load
from stages.materialize import StageSpec, materialize
from stages.ref import Ref
from stages.report.again import again, verdicts_at
from stages.report.applying import RECIPES

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
    ("source", "version", "words"),
    [
        (
            "own",
            "photos",
            "--recipe photos --source own --set policy.min_side.min_pixels=1 --new-version photos-moved",
        ),
        ("own", "mine", "--recipe photos --version mine --source own --set"),
        ("coyo", "smoke-2", "--recipe smoke --version smoke-2 --source coyo --set"),
        ("coyo", "v7", "filter --recipe tiny --version v7 --source coyo --set"),
    ],
)
def test_the_command_names_recipe_and_version_where_they_differ(
    tmp_path: Path, source: str, version: str, words: str
) -> None:
    store = Store(str(tmp_path))
    store_signals(store, source, version, parts=1)
    assert words in command_of(store, judge(store, clean(), source, version), ["min_side.min_pixels=1"])


def test_the_command_of_moved_thresholds_starts_from_what_they_were_judged_by(tmp_path: Path) -> None:
    """Applied as printed, a step of rules that were moved before keeps as many rows as was said."""
    store = judged_store(Store(str(tmp_path)), "coyo")
    judge(store, clean(min_pixels=48), "coyo", "tiny-a", made_from="tiny")
    moved = caption_quality("coyo", min_units=4)
    spec = StageSpec(
        stage="filter",
        artifact=Ref(name="verdicts/caption_quality/coyo", version="tiny-a"),
        parameters={"source": "coyo", "policy": moved.model_dump(mode="json")},
        inputs=tuple(
            Ref.model_validate(name) for name in ("signals/coyo@tiny", "pool/coyo@tiny", "verdicts/clean/coyo@tiny-a")
        ),
    )
    materialize(spec, store, InlineCluster(), progress=False)
    (reply,) = ask(store, "verdicts/caption_quality/coyo@tiny-a", Question(("completeness.min_function_words=3",)))
    standing = ["policy.length_units.min_units=4.0", "policy.min_side.min_pixels=48.0"]
    given = [*standing, "policy.completeness.min_function_words=3"]
    words = " ".join(f"--set {each}" for each in given)
    assert reply.command == (f"internvl rerun filter --recipe tiny --source coyo {words} --new-version tiny-a-moved")
    steps = rerun_steps("filter", RecipeName.TINY, ["coyo"], given, "", "tiny-a-moved")
    assert [str(step.spec.artifact) for step in steps] == [
        "verdicts/clean/coyo@tiny-a-moved", "verdicts/caption_quality/coyo@tiny-a-moved"
    ]  # fmt: skip
    judge(store, clean(min_pixels=48), "coyo", "tiny-a-moved", made_from="tiny")
    spec = spec.model_copy(
        update={
            "artifact": Ref(name=spec.artifact.name, version="tiny-a-moved"),
            "parameters": {
                "source": "coyo",
                "policy": caption_quality("coyo", min_units=4, min_function_words=3).model_dump(mode="json"),
            },
        }
    )
    assert materialize(spec, store, InlineCluster(), progress=False).ledger.kept == reply.answer.after
    # The page tells the same; a change takes the place of what stands.
    page = again(store, verdicts_at(store, Ref.model_validate("verdicts/caption_quality/coyo@tiny-a")))
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert data["whatIf"]["sources"][0]["apply"] == {"recipe": "tiny", "version": "tiny", "standing": standing}
    again_moved = ask(store, str(reply.ref), Question(("length_units.min_units=8",)))[0].command
    assert again_moved.count("min_units") == 1 and "min_units=8" in again_moved
    store.remove("verdicts/caption_quality/coyo/tiny")
    whole = ask(store, str(reply.ref), Question(("length_units.min_units=8",)))[0].command
    assert "--set policy.repetition." in whole  # nothing to compare with: all that was judged by is told
    store.remove("signals/coyo")
    assert ask(store, str(reply.ref), Question(("length_units.min_units=8",)))[0].command == ""


def test_pages_know_the_recipes_that_there_are() -> None:
    assert list(RECIPES) == [str(recipe) for recipe in RecipeName]


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
