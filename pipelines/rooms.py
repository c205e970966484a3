"""Whether what a placement computes at once holds the conversations of a chat training."""

from collections.abc import Sequence

from infra.storage import Store
from pipelines.graph import Step
from stages.instruct_parameters import Parameters
from stages.manifest import ManifestError, find
from stages.training.balancing import Room
from stages.workspace import Placement


def too_small(steps: Sequence[Step], store: Store) -> list[str]:
    """Return a line for each chat training that would refuse its own conversations; what stands already is done."""
    found: list[str] = []
    for step in steps:
        if step.spec.stage != "instruct" or find(store, step.spec.artifact) is not None:
            continue
        given = Parameters.model_validate(step.spec.parameters)
        room = Room.of(Placement(**step.spec.placement))
        # The thumbnail comes on top of tiles that are more than one.
        tiles = given.max_dynamic_patch + (given.use_thumbnail and given.max_dynamic_patch > 1)
        if not room.holds(given.context_length, tiles):
            found.append(
                f"{step.label}: a pack holds max_packed_tokens {room.tokens} and max_packed_tiles {room.tiles}, and "
                f"a conversation may have {given.context_length} tokens and a picture {tiles} tiles; raise them in "
                "the placement, or lower context_length or max_dynamic_patch"
            )
    return found


def refuse_too_small(steps: Sequence[Step], store: Store) -> None:
    """Find before anything is trained what the third stage would refuse after the first two.

    Raises:
        ManifestError: A chat training does not fit into the packs of its placement.
    """
    if lines := too_small(steps, store):
        raise ManifestError("\n".join(lines))
