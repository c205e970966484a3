"""The command that trains a finished chat model further: whole, or by adapters."""

from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.settings import settings
from infra.storage import Store
from pipelines.aside import PlacementFile, Workers, given_in, made_aside, placed
from pipelines.options import app
from pipelines.terminal import Refusal, clear_errors, console
from stages.manifest import Manifest, load
from stages.materialize import StageSpec
from stages.ref import Ref

if TYPE_CHECKING:
    from stages.instruct_parameters import Parameters


@app.command()
def tune(
    checkpoint: Annotated[str, typer.Argument(help="Chat model to go on from: checkpoints/instruct@tiny.")],
    conversations: Annotated[
        list[str], typer.Option("--conversations", help="What to learn from, name@version; may be repeated.")
    ],
    new_version: Annotated[str, typer.Option("--new-version", help="Version of checkpoints/instruct to write.")],
    parameters: Annotated[
        Path | None,
        typer.Option("--parameters", help="JSON of what is to differ from how it was trained; see the how-to page."),
    ] = None,
    placement: PlacementFile = None,
    workers: Workers = None,
) -> None:
    """Train a chat model further, whole or by adapters (LoRA): docs/how-to/train-a-published-system.md."""
    with clear_errors():
        from stages.instruct import Parameters

        start, talks = Ref.model_validate(checkpoint), [Ref.model_validate(each) for each in conversations]
        if twice := next((pair for pair in combinations(talks, 2) if pair[0].name == pair[1].name), None):
            raise Refusal(
                f"{twice[0]} and {twice[1]} have one name, and a model learns from one version of it; make one of "
                "them anew under another name"
            )
        store = Store(settings().store_root)
        trained = load(store, start)
        if trained.stage not in ("instruct", "adopt"):
            raise Refusal(f"{start} is no chat model; name one that stage instruct made, or that was adopted")
        samples, given = sum(load(store, each).ledger.kept for each in talks), given_in(parameters)
        if trained.stage == "adopt":
            before = further(store, trained, samples).model_dump(mode="json")
        else:
            before = trained.identity["parameters"]
        schedule = {**before["schedule"], **given.get("schedule", {})}
        # What was a way of training it is not a way of training it further, unless it is asked for.
        fields = {**before, "lora": {}, "mixture": (), **given, "schedule": schedule, "start": start.name}
        artifact = Ref(name="checkpoints/instruct", version=new_version)
        if artifact == start:
            raise Refusal(f"{start} stands and is read from; give --new-version another name")
        spec = StageSpec(
            stage="instruct",
            artifact=artifact,
            parameters=Parameters.model_validate(fields).model_dump(mode="json"),
            inputs=(*talks, start),
            placement=placed(placement, workers),
        )
        made = made_aside(spec, store)
        numbers = ", ".join(f"{name.replace('_', ' ')} {made.totals[name]:.3f}" for name in _SHOWN)
        console.print(f"{made.ref}  {made.ledger.kept:,} conversations; {numbers}", highlight=False)


def further(store: Store, adopted: Manifest, samples: int) -> "Parameters":
    """Return how an adopted model is trained further where nothing else is asked for.

    Pictures are shown and conversations written as its configuration says. Batch, peak and length (one pass) are
    those of the official scripts that tune InternVL2 further, which freeze the encoder; that all learns, and the
    decay, is ours.

    Args:
        store: Where it lies.
        adopted: What stage adopt made.
        samples: Conversations of one pass.
    """
    from models.composition import ChatPart
    from models.config import ChatConfig
    from pipelines.recipes.systems import Lesson
    from stages.checkpoints import file_named
    from stages.workspace import read_file

    file = file_named(adopted, "config.json")
    assert file is not None, "it was published with one"
    config = ChatConfig.model_validate_json(read_file(store, adopted, file))
    part = ChatPart.model_validate(config.model_dump(include=set(ChatPart.model_fields)))
    batch = min(128, max(samples, 1))
    lesson = Lesson("all", samples, batch, 4e-5, 0.05, 0.0, config.context_length)
    own = {"use_thumbnail": config.use_thumbnail, "system_message": config.system_message}
    return lesson.parameters(part, config.vision).model_copy(update=own)


_SHOWN = ("held_out_loss", "token_accuracy", "answers_right")
