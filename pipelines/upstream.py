"""Which version a stage reads: the newest, one by name, or one by the digest of something it reads."""

from collections.abc import Sequence

from infra.settings import settings
from infra.storage import Store
from pipelines.graph import Step, data_steps, train_steps
from pipelines.names import RecipeName
from pipelines.recipes import NO_DATA, make
from stages.aliases import LATEST
from stages.errors import Missing
from stages.manifest import ManifestError, find, finished_versions
from stages.ref import Ref

LEAST_DIGEST = 8


def names_read(recipe: RecipeName, stage: str, sources: Sequence[str] = ()) -> list[str]:
    """Return the artifacts that a stage of a recipe reads, or makes where it reads none."""
    made = make(recipe, NO_DATA, settings().web_url)
    steps = [*data_steps(made, "x"), *train_steps(made, "x")]
    chosen = [step for step in steps if step.spec.stage == stage]
    chosen = [step for step in chosen if not sources or step.artifact.rpartition("/")[2] in sources]
    ours = {step.artifact for step in chosen}
    read = dict.fromkeys(ref.name for step in chosen for ref in step.spec.inputs if ref.name not in ours)
    return list(read) or sorted(ours)


def version_of(store: Store, names: Sequence[str], chosen: str) -> str:
    """Return the version that is meant.

    Args:
        store: Where artifacts stand.
        names: Artifacts that are read.
        chosen: `latest` for the newest version in which all of them stand; the digest of one of them, or its first
            eight letters or more; or a version, which is returned as it is.

    Raises:
        ManifestError: No version is finished, or a digest means several versions.
    """
    if chosen != LATEST and (not _hexadecimal(chosen) or any(chosen in store.folders(name) for name in names)):
        return chosen
    if chosen != LATEST:
        return _of_digest(store, names, chosen)
    whole = set.intersection(*(set(finished_versions(store, name)) for name in names)) if names else set()
    if not whole:
        lost = next((name for name in names if not finished_versions(store, name)), names[0])
        raise Missing(f"no version has all of {', '.join(names)}", lost)
    return max(whole, key=lambda version: (_age(store, names, version), version))


def _hexadecimal(text: str) -> bool:
    return len(text) >= LEAST_DIGEST and set(text) <= set("0123456789abcdef")


def _age(store: Store, names: Sequence[str], version: str) -> float:
    """Return when the last of some artifacts was finished."""
    keys = {f"{name}/{version}/manifest.json" for name in names}
    return max(each.modified for name in names for each in store.entries(f"{name}/{version}") if each.key in keys)


def _of_digest(store: Store, names: Sequence[str], digest: str) -> str:
    refs = [Ref(name=name, version=version) for name in names for version in finished_versions(store, name)]
    found = [ref for ref in refs if (manifest := find(store, ref)) and manifest.digest.startswith(digest)]
    versions = sorted({ref.version for ref in found})
    if len(versions) == 1:
        return versions[0]
    if versions:
        raise ManifestError(f"digest {digest} means {', '.join(map(str, found))}; give more of it")
    stand = sorted({ref.version for ref in refs})
    known = f"finished versions: {', '.join(stand)}" if stand else "no version of them is finished"
    raise Missing(f"no version of {', '.join(names)} is named {digest} or has this digest; {known}", names[0])


def reading(steps: Sequence[Step], store: Store, chosen: str) -> list[Step]:
    """Return steps that read what none of them makes in the version that is meant.

    Raises:
        ManifestError: See `version_of`.
    """
    made = {step.spec.artifact for step in steps}
    names = list(dict.fromkeys(ref.name for step in steps for ref in step.spec.inputs if ref not in made))
    version = version_of(store, names, chosen)

    def pointed(step: Step) -> Step:
        inputs = tuple(ref if ref in made else Ref(name=ref.name, version=version) for ref in step.spec.inputs)
        return step.changed(inputs=inputs)

    return [pointed(step) for step in steps]
