"""The command that tunes a finished checkpoint for retrieval."""

from typing import Annotated

import typer

from infra.settings import settings
from infra.storage import Store
from pipelines.aside import ParametersFile, PlacementFile, Workers, given_in, made_aside, placed
from pipelines.options import app
from pipelines.terminal import Refusal, clear_errors, console
from stages.held_out import FIELD
from stages.manifest import load
from stages.materialize import StageSpec
from stages.ref import Ref


@app.command()
def finetune(
    checkpoint: Annotated[
        str, typer.Argument(help="Where to start: checkpoints/contrastive@tiny or checkpoints/generative@tiny.")
    ],
    shards: Annotated[str, typer.Option("--shards", help="Pairs to learn from, name@version.")],
    new_version: Annotated[str, typer.Option("--new-version", help="Name of the version that is written.")],
    parameters: ParametersFile = None,
    placement: PlacementFile = None,
    workers: Workers = None,
) -> None:
    """Tune InternVL-C or -G for retrieval on pictures with several captions: docs/how-to/finetune-retrieval.md."""
    with clear_errors():
        from stages.finetune import Parameters

        start, pairs = Ref.model_validate(checkpoint), Ref.model_validate(shards)
        if start.name not in ("checkpoints/contrastive", "checkpoints/generative"):
            raise Refusal(f"{start} is no InternVL-C or -G; name checkpoints/contrastive or checkpoints/generative")
        if new_version == start.version:
            raise Refusal(f"{start} stands and is read from; give --new-version another name")
        store = Store(settings().store_root)
        fields = {**given_in(parameters), "checkpoint": start.name, "shards": pairs.name}
        trained = load(store, start).identity.get("parameters", {})
        if FIELD in trained:
            fields.setdefault(FIELD, trained[FIELD])
        load(store, pairs)
        spec = StageSpec(
            stage="finetune",
            artifact=Ref(name=start.name, version=new_version),
            parameters=Parameters.model_validate(fields).model_dump(mode="json"),
            inputs=(pairs, start),
            placement=placed(placement, workers),
        )
        made = made_aside(spec, store)
        console.print(f"{made.ref}  {made.ledger.kept:,} pairs", highlight=False)
        for way in ("image_to_text", "text_to_image"):
            name = f"recall_at_1_{way}"
            if name in made.totals:
                console.print(
                    f"{way.replace('_', ' ')} R@1 among {made.totals['held_out']:.0f} held out: "
                    f"{made.totals[name + '_before']:.1%} before, {made.totals[name]:.1%} after "
                    f"(chance {made.totals['recall_at_1_chance']:.1%})",
                    highlight=False,
                )
