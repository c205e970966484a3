"""The command that trains a finished chat model further: whole, or by adapters."""

from itertools import combinations
from pathlib import Path
from typing import Annotated

import typer

from infra.settings import settings
from infra.storage import Store
from pipelines.aside import PlacementFile, Workers, given_in, made_aside, placed
from pipelines.options import app
from pipelines.terminal import Refusal, clear_errors, console
from stages.manifest import load
from stages.materialize import StageSpec
from stages.ref import Ref


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
            from stages.adopt import further

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


_SHOWN = ("held_out_loss", "token_accuracy", "answers_right")
