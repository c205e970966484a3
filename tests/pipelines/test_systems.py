"""Published chat systems as recipes: their numbers, how much learns, and the two steps that they become."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from infra.storage import Store
from models.chat import InternVLChat
from models.counting import count, parts, shapes
from models.rope import LongRope
from models.sizes import SIZES
from pipelines.cli import app
from pipelines.graph import train_steps
from pipelines.names import RecipeName
from pipelines.recipes import OwnData, make, paper
from pipelines.recipes.systems import ALIGNED, LESSONS, lessons_of
from pipelines.rooms import refuse_too_small, too_small
from stages import instruct
from stages.chat_template import SYSTEM_MESSAGES, TEMPLATES
from stages.instruct_parameters import Parameters
from stages.manifest import ManifestError
from stages.training.balancing import Room
from stages.workspace import Placement


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
    monkeypatch.delenv("INTERNVL_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "200")


# What learns (vision, language), batch, rate, decay, drop path, context, warm-up: model cards, papers and scripts.
PUBLISHED = {
    "InternVL-Chat-V1-0-7B": (
        (False, False, 256, 1e-3, 0.0, 0.0, 2048, 65),
        (False, True, 128, 2e-5, 0.0, 0.0, 2048, 156),
    ),
    "InternVL-Chat-V1-2": (
        (True, False, 8192, None, None, None, 2048, None),
        (True, True, 512, 1e-5, 0.05, 0.4, 2048, 74),
    ),
    "InternVL-Chat-V1-5": (
        (True, False, 2048, 1e-5, 0.05, 0.2, 4096, 100),
        (True, True, 1024, 2e-5, 0.05, 0.4, 4096, 146),
    ),
    "InternVL-Chat-V1-5-Plus": (
        (False, False, 2048, 1e-4, 0.05, 0.0, 4096, 100),
        (True, True, 1024, 2e-5, 0.05, 0.4, 4096, 146),
    ),
    "Mini-InternVL-Chat-2B-V1-5": (
        (True, False, 2048, 2e-5, 0.01, 0.1, 4096, 100),
        (True, True, 1024, 4e-5, 0.01, 0.1, 8192, 146),
    ),
    "Mini-InternVL-Chat-4B-V1-5": (
        (False, False, 2048, 2e-4, 0.05, 0.0, 4096, 100),
        (True, True, 1024, 4e-5, 0.05, 0.1, 8192, 146),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_numbers_are_those_that_were_published(name: str) -> None:
    for found, expected in zip(lessons_of(name), PUBLISHED[name], strict=True):
        schedule = found.schedule
        ours = (
            found.train_vision, found.train_language, schedule.global_batch_size, schedule.learning_rate,
            schedule.weight_decay, found.drop_path_rate, found.context_length, schedule.warmup_steps,
        )  # fmt: skip
        assert [one for one, other in zip(ours, expected, strict=True) if other is not None] == [
            each for each in expected if each is not None
        ]
        assert found.train_connector and (schedule.beta1, schedule.beta2) == (0.9, 0.999)
    first, second = lessons_of("InternVL-Chat-V1-2")
    assert first.schedule.steps == 4800 and second.schedule.steps == 1_267_819 // 512


def test_the_rule_that_the_scripts_show_holds_for_all() -> None:
    """An alignment with a frozen encoder has ten times the rate of one that trains it, and drops no block."""
    assert set(LESSONS) == {name for name, size in SIZES.items() if size.kind == "chat"}
    for name in LESSONS:
        first, second = lessons_of(name)
        assert first.start is None and second.start == ALIGNED
        assert first.train_vision or first.drop_path_rate == 0
        assert not first.train_language and second.train_language
        assert first.template in TEMPLATES and first.encoder == second.encoder
        assert second.max_dynamic_patch == (
            1 if "V1-0" in name or "QLLaMA" in name or "V1-1" in name or "V1-2" in name else 12
        )
    rates = {
        name: lessons_of(name)[0].schedule.learning_rate for name in ("InternVL-Chat-V1-5", "InternVL-Chat-V1-5-Plus")
    }
    assert rates["InternVL-Chat-V1-5-Plus"] == 10 * rates["InternVL-Chat-V1-5"]


LONG = LongRope(short_factor=(1.0,) * 48, long_factor=(2.0,) * 48, original_max_position_embeddings=4096)


def trained(name: str, parameters: Parameters) -> dict[str, int]:
    """Return how many numbers learn in each part, of a model that takes no memory."""
    size = SIZES[name]
    assert size.language is not None
    config = size.chat_config(
        image_context_token_id=0, eos_token_id=2, rope_scaling=LONG if size.language.factors_elsewhere else None
    )
    with torch.device("meta"):
        chat = InternVLChat(config)
    instruct.freeze(chat, parameters)
    learned = {n: tuple(value.shape) for n, value in chat.named_parameters() if value.requires_grad}
    assert count({n: tuple(value.shape) for n, value in chat.named_parameters()}) == count(shapes(size))
    sums: dict[str, int] = {}
    for part, number in parts(learned).items():
        group = part.partition(":")[0]
        sums[group] = sums.get(group, 0) + number
    return sums


def connector(name: str) -> int:
    """Return the numbers of a connector by the formula of its kind."""
    size = SIZES[name]
    assert size.vision and size.language and size.chat
    seen, width = size.vision.hidden_size, size.language.shape.hidden_size
    if size.chat.connector == "unshuffle_mlp":
        return 8 * seen + 4 * seen * width + 2 * width + width**2
    layers = seen * width + 2 * width + width**2
    queries = size.towers.text.hidden_size * width + 2 * width + width**2 if size.towers else 0
    return layers + queries


KINDS = ("InternVL-Chat-QLLaMA-7B", "InternVL-Chat-V1-0-13B", "InternVL-Chat-V1-1", "InternVL-Chat-V1-5")
KINDS += ("Mini-InternVL-Chat-4B-V1-5", "InternVL2-1B", "InternVL2-40B")


@pytest.mark.parametrize("name", KINDS)
def test_just_that_learns_which_the_table_names(name: str) -> None:
    whole: dict[str, int] = {}
    for part, number in parts(shapes(SIZES[name])).items():
        whole[part.partition(":")[0]] = whole.get(part.partition(":")[0], 0) + number
    if name == "InternVL-Chat-V1-1":
        # The three last blocks of 48 are not shown, and learn nothing: 448px-V1-2 is what is left.
        whole["vision"] = count(shapes(SIZES["InternViT-6B-448px-V1-2"]))
    for parameters in lessons_of(name):
        expected = {"connector": connector(name)}
        expected |= {"vision": whole["vision"]} if parameters.train_vision else {}
        expected |= {"language": whole["language"]} if parameters.train_language else {}
        assert trained(name, parameters) == expected
    assert connector("InternVL-Chat-V1-5") == 116_429_824


def test_a_system_becomes_two_steps_of_the_dag() -> None:
    made = make(RecipeName.ONE_GPU, OwnData(system="internvl2-2b"))
    found = {step.artifact: step.spec for step in train_steps(made, "t")}
    align, chat = found["checkpoints/align"], found["checkpoints/instruct"]
    assert align.stage == chat.stage == "instruct" and align.placement == chat.placement
    assert [str(ref) for ref in align.inputs] == [
        "conversations@t", "checkpoints/contrastive@t", "checkpoints/language@t",
    ]  # fmt: skip
    assert [str(ref) for ref in chat.inputs] == ["conversations@t", "checkpoints/align@t"]
    assert (chat.parameters["schedule"]["steps"], chat.parameters["schedule"]["learning_rate"]) == (2000, 4e-5)
    assert chat.parameters["max_dynamic_patch"] == 12 and made.conversations.image_size == 448
    assert "checkpoints/align" not in {step.artifact for step in train_steps(make(RecipeName.ONE_GPU), "t")}


def test_the_paper_s_systems_show_what_they_showed() -> None:
    usual = {step.artifact: step.spec for step in train_steps(make(RecipeName.PAPER), "t")}
    given = usual["checkpoints/instruct"].parameters
    assert (given["connector"], given["image_size"], given["select_layer"]) == ("mlp", 336, -4)
    assert "exports/instruct" not in usual and "exports/contrastive" in usual
    asked = make(RecipeName.PAPER, OwnData(system="InternVL-Chat-QLLaMA-7B"))
    align = next(step for step in train_steps(asked, "t") if step.artifact == "checkpoints/align")
    assert "checkpoints/generative@t" in [str(ref) for ref in align.spec.inputs]
    assert align.spec.parameters["connector"] == "two_mlp"


def test_a_plan_prices_both_steps() -> None:
    result = CliRunner().invoke(
        app, ["plan", "train", "--recipe", "paper", "--system", "InternVL-Chat-QLLaMA-7B", "--json"]
    )
    assert result.exit_code == 0, result.output
    training = {each["stage"]: each for each in json.loads(result.stdout)["training"]}
    assert list(training) == ["language", "contrastive", "generative", "align", "instruct"]
    assert training["align"]["parameters"] == training["instruct"]["parameters"] > 19e9
    assert training["align"]["trained"] == 3200 * 4096 + 3 * 4096**2 + 4 * 4096


def test_unknown_systems_and_recipes_that_have_their_own_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no chat system is called 'InternVL9'; known are InternVL-Chat-QLLaMA-7B"):
        make(RecipeName.PAPER, OwnData(system="InternVL9"))
    with pytest.raises(ValueError, match="no chat system is called"):
        lessons_of("InternViT-6B-224px")
    with pytest.raises(ValueError, match="has a chat model of its own"):
        make(RecipeName.TINY, OwnData(system="InternVL2-2B"))


@pytest.mark.parametrize("name", LESSONS)
def test_every_system_fits_into_the_packs_of_its_placement(name: str, tmp_path: Path) -> None:
    steps = train_steps(make(RecipeName.PAPER, OwnData(system=name)), "t")
    store = Store(str(tmp_path / "store"))
    assert too_small(steps, store) == []
    (room,) = {Room.of(Placement(**step.spec.placement)) for step in steps if step.spec.stage == "instruct"}
    for lesson in lessons_of(name):
        shown = lesson.context_length // SIZES[name].image_tokens
        assert room.holds(lesson.context_length, shown), "a conversation of small pictures, as many as fit"


def test_packs_that_are_too_small_are_found_before_the_first_stage_is_paid_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {**paper.PLACEMENT["instruct"], "max_packed_tokens": 4096, "max_packed_tiles": 8}
    monkeypatch.setattr(paper, "room_of", lambda _: small)
    steps = train_steps(make(RecipeName.PAPER, OwnData(system="InternVL2-8B")), "t")
    lines = r"instruct align: .* 4096 and max_packed_tiles 8, .* 8192 tokens and a picture 13 tiles; raise"
    with pytest.raises(ManifestError, match=lines):
        refuse_too_small(steps, Store(str(tmp_path / "store")))
    result = CliRunner().invoke(app, ["plan", "train", "--recipe", "paper", "--system", "InternVL2-8B"])
    shown = " ".join(result.output.split())
    assert result.exit_code == 0
    assert "too small: instruct align:" in shown and "too small: instruct:" in shown


@pytest.mark.parametrize("name", LESSONS)
def test_no_context_is_longer_than_the_language_model_reads(name: str) -> None:
    language = SIZES[name].language
    assert language is not None
    assert all(each.context_length <= language.shape.max_position_embeddings for each in lessons_of(name))


def test_a_system_is_taught_with_what_its_published_model_is_told() -> None:
    """One table, that of the templates: what is trained is what `chat` and `convert` read of official models."""
    told = {each.template: each.system_message for name in LESSONS for each in lessons_of(name)}
    assert told.keys() - {"internvl_zh"} <= SYSTEM_MESSAGES.keys()
    assert told == {template: SYSTEM_MESSAGES.get(template, "") for template in told}
