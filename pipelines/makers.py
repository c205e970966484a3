"""Which command makes an artifact that is asked for and does not stand."""

from pipelines.names import RecipeName
from stages.errors import Missing

_DATA = ("listing", "pool", "signals/", "verdicts/", "shards/", "checkpoints/filtering_network")
_TRAINED = tuple(f"checkpoints/{each}" for each in ("language", "contrastive", "generative", "align", "instruct"))
_TRAIN = (*_TRAINED, "conversations", "evaluations/", "exports/")
_ASIDE = {
    "benchmarks/": "internvl evaluate checkpoints/{tail}@{version} --data FOLDER",
    "curves/": "internvl evaluate --follow checkpoints/{tail}@{version}",
    "checkpoints/encoder": "internvl distill --help",
    "variants": "internvl variants --version {version}",
}
_OWN_DATA = {
    RecipeName.PHOTOS: " --urls FILE_OR_GLOB",
    RecipeName.ONE_GPU: " --urls FILE_OR_GLOB",
    RecipeName.PAPER: " --lists FOLDER",
}


def command_for(name: str, version: str = "") -> str | None:
    """Return the command that makes an artifact, None where no command is known by its name.

    A version that has the name of a recipe is taken for what that recipe makes; for another one the recipe is left to
    be filled in, in capitals, as all that is the user's.
    """
    for head, command in _ASIDE.items():
        if name.startswith(head):
            return command.format(tail=name.rpartition("/")[2], version=version or "VERSION")
    pilot = name.startswith(("listing/pilot/", "pilot/"))
    data = pilot or name.startswith(_DATA)
    if not data and not name.startswith(_TRAIN):
        return None
    recipe = RecipeName(version) if version in list(RecipeName) else None
    if recipe is RecipeName.TINY and not pilot:
        return "internvl run data" if data else "internvl demo"
    named = f"--recipe {recipe or 'RECIPE'}" + (f" --version {version}" if version and not recipe else "")
    if not data:
        return f"internvl run train {named}"
    own = _OWN_DATA.get(recipe, "") if recipe else ""
    return f"internvl plan data {named}{own} --pilot 10000" if pilot else f"internvl run data {named}{own}"


def next_move(missing: Missing) -> str:
    """Return what is missing and the command that makes it, as one sentence."""
    command = command_for(missing.name, missing.version)
    return f"{missing.fact}; make it: {command}" if command else str(missing)
