"""The command that distils a small vision encoder from a large one."""

from typing import Annotated

import typer

from infra.settings import settings
from infra.storage import Store
from pipelines.aside import ParametersFile, PlacementFile, Workers, given_in, made_aside, placed
from pipelines.options import app
from pipelines.terminal import clear_errors, console
from stages.manifest import load
from stages.materialize import StageSpec
from stages.ref import Ref


@app.command()
def distill(
    teacher: Annotated[str, typer.Argument(help="Whose encoder is copied: checkpoints/contrastive@tiny.")],
    shards: Annotated[str, typer.Option("--shards", help="Pictures to copy it on, name@version.")],
    new_version: Annotated[str, typer.Option("--new-version", help="Version of checkpoints/encoder to write.")],
    parameters: ParametersFile = None,
    placement: PlacementFile = None,
    workers: Workers = None,
) -> None:
    """Distil a small encoder, as InternViT-300M was made: docs/how-to/train-a-published-system.md."""
    with clear_errors():
        from stages.distill import Parameters

        copied, pictures = Ref.model_validate(teacher), Ref.model_validate(shards)
        store = Store(settings().store_root)
        load(store, copied), load(store, pictures)
        fields = {**given_in(parameters), "teacher": copied.name, "shards": pictures.name}
        spec = StageSpec(
            stage="distill",
            artifact=Ref(name="checkpoints/encoder", version=new_version),
            parameters=Parameters.model_validate(fields).model_dump(mode="json"),
            inputs=(pictures, copied),
            placement=placed(placement, workers),
        )
        made = made_aside(spec, store)
        held_out, cosine = made.totals["held_out"], made.totals["held_out_cosine"]
        console.print(f"{made.ref}  cosine {cosine:.3f} to the teacher among {held_out} held out", highlight=False)
