"""What a recipe needs from its user and does not find: lists of addresses, a language model, a vision tower."""

from collections.abc import Sequence
from pathlib import Path

from infra.storage import Store
from pipelines.graph import Step
from pipelines.recipes import OwnData
from stages.manifest import ManifestError, find


def missing(steps: Sequence[Step], store: Store) -> list[str]:
    """Return a line for each thing that a step waits for, naming its place; nothing is read.

    What stands already needs its sources no more. Addresses on the network are not asked.
    """
    found: list[str] = []
    for step in steps:
        if find(store, step.spec.artifact) is not None:
            continue
        given = step.spec.parameters
        if step.spec.stage == "list_urls":
            found += _list(given)
        elif step.spec.stage == "language":
            found += _language(given["pretrained"])
        elif step.spec.stage == "contrastive":
            found += _vision(given["start_vision"])
    return found


def _language(name: str | None) -> list[str]:
    if not name or _there(name):
        return []
    return [
        f"a language model is looked for in {name}: put config.json, tokenizer.json and *.safetensors there, "
        "or name another with --language-model FOLDER"
    ]


def _vision(name: str | None) -> list[str]:
    if not name or Path(name).exists():
        return []
    return [f"a vision tower is looked for in {name}: name another with --vision-model FOLDER"]


def _list(given: dict[str, object]) -> list[str]:
    paths = given["paths"]
    if given["images"] or given["site"]:
        return []
    if not isinstance(paths, list) or not paths:
        return [f"source {given['source']} has no list: give --urls FILE_OR_GLOB, or --images FOLDER_OR_TAR"]
    lost = [path for path in paths if "://" not in path and not any(Path("/").glob(str(path).lstrip("/")))]
    return [f"source {given['source']}: put {_wanted(str(given['adapter']))} in {path}" for path in lost]


def _wanted(schema: str) -> str:
    from stages.sources.catalog import GENERIC, known

    if schema == GENERIC:
        return "a url list"
    return f"{known()[schema].title} ({known()[schema].files}; columns: internvl sources {schema})"


def _there(name: str) -> bool:
    """Say whether a language model may be there: a folder, or a name of the hub, which only its stage asks."""
    return Path(name).is_dir() or (name.count("/") == 1 and not name.startswith((".", "~", "/")))


def refuse_absent(own: OwnData) -> None:
    """Find models that a user names and that are not there, also where no step asks for them yet.

    Raises:
        ManifestError: One is not; all are named.
    """
    _refuse([*_language(own.language_model), *_vision(own.vision_model)])


def refuse_unreadable(steps: Sequence[Step], store: Store) -> None:
    """Find lists whose files are there and have another shape, before anything starts; their heads alone are read.

    Raises:
        ManifestError: A file of a list that is still to be read lacks a column, or cannot be read.
    """
    from stages.list_urls import Parameters, look

    for step in steps:
        waits = step.spec.stage == "list_urls" and find(store, step.spec.artifact) is None
        if waits and not _list(step.spec.parameters):
            look(Parameters.model_validate(step.spec.parameters))


def refuse_missing(steps: Sequence[Step], store: Store) -> None:
    """Find before anything starts what a user has yet to bring.

    Raises:
        ManifestError: Something is missing; all of it is named, with its place.
    """
    _refuse(missing(steps, store))


def _refuse(lines: Sequence[str]) -> None:
    if lines:
        raise ManifestError("this recipe needs what is not here yet:\n  " + "\n  ".join(lines))
