"""What does not stand is named with the versions that do, and with a command that makes it."""

import pickle

import pytest

from infra.storage import Store
from pipelines.graph import data_steps, train_steps
from pipelines.makers import command_for
from pipelines.names import RecipeName
from pipelines.recipes import make
from pipelines.terminal import explain
from stages.errors import Missing
from stages.manifest import load
from stages.ref import Ref
from stages.workspace import Output


def finish(store: Store, *refs: str) -> None:
    for ref in map(Ref.model_validate, refs):
        Output(store=store, ref=ref, stage="toy", identity={}).commit([])


def refused(store: Store, ref: str) -> Missing:
    with pytest.raises(Missing) as refusal:
        load(store, Ref.model_validate(ref))
    return refusal.value


def test_versions_that_stand_are_named_and_else_names_beside_it(store: Store) -> None:
    finish(store, "checkpoints/instruct@tiny", "checkpoints/instruct@photos", "checkpoints/language@tiny")
    store.write("checkpoints/contrastive/tiny/markers/1.json", b"{}")
    assert "; finished versions: photos, tiny;" in str(refused(store, "checkpoints/instruct@mine"))
    said = str(refused(store, "checkpoints/instrct@tiny"))
    assert "no version of it is finished, only of checkpoints/instruct, checkpoints/language;" in said
    assert "only of" not in str(refused(store, "shards/clean@tiny"))


def test_the_command_is_told_in_the_terminal(store: Store) -> None:
    said = explain(refused(store, "checkpoints/instruct@photos"))
    assert said.endswith("no version of it is finished; make it: internvl run train --recipe photos")
    assert explain(refused(store, "nonsense@x")).endswith("run the stage that makes it first")


def test_what_is_missing_comes_whole_from_a_worker(store: Store) -> None:
    error = refused(store, "pool/coyo@tiny")
    sent = pickle.loads(pickle.dumps(error))
    assert (str(sent), sent.name, sent.version) == (str(error), "pool/coyo", "tiny")


@pytest.mark.parametrize(
    ("ref", "command"),
    [
        ("pool/coyo@tiny", "internvl run data"),
        ("exports/instruct@tiny", "internvl demo"),
        ("shards/clean@one_gpu", "internvl run data --recipe one_gpu --urls FILE_OR_GLOB"),
        ("verdicts/clean/coyo@paper", "internvl run data --recipe paper --lists FOLDER"),
        ("pilot/own@photos-500", "internvl plan data --recipe RECIPE --version photos-500 --pilot 10000"),
        ("checkpoints/instruct@mine", "internvl run train --recipe RECIPE --version mine"),
        ("benchmarks/contrastive@c", "internvl evaluate checkpoints/contrastive@c --data FOLDER"),
        ("checkpoints/instrct@tiny", None),
    ],
)
def test_commands(ref: str, command: str | None) -> None:
    name, _, version = ref.partition("@")
    assert command_for(name, version) == command


@pytest.mark.parametrize("recipe", [RecipeName.TINY, RecipeName.PHOTOS, RecipeName.PAPER])
def test_all_that_a_recipe_makes_has_a_command_of_its_half(recipe: RecipeName) -> None:
    made = make(recipe)
    for step in data_steps(made, "mine"):
        assert (command_for(step.artifact, "mine") or "").startswith("internvl run data "), step.artifact
    for step in train_steps(made, "mine"):
        wanted = "internvl evaluate " if step.spec.stage == "benchmark" else "internvl run train "
        assert (command_for(step.artifact, "mine") or "").startswith(wanted), step.artifact
