"""Which steps a flow has: a recipe's graph, with a user's data in it."""

from collections.abc import Sequence

from infra.settings import settings
from infra.storage import Store
from pipelines.graph import Step, data_steps, train_steps
from pipelines.missing import refuse_absent, refuse_missing, refuse_unreadable
from pipelines.names import FlowName, RecipeName
from pipelines.placing import place
from pipelines.recipes import LISTED, NO_DATA, STARTED, OwnData, make
from pipelines.remembered import remembered, remembered_sources, remembered_system
from pipelines.rooms import refuse_too_small
from stages.aliases import refuse_reserved
from stages.manifest import find, load
from stages.materialize import Drift, standing
from stages.ref import check_version

STANDS = "stands"


def steps_of(flow: FlowName, recipe: RecipeName, version: str = "", own: OwnData = NO_DATA) -> list[Step]:
    """Return the steps of a flow, in an order that can be run.

    Data, models and a published system need to be named once: later runs read them from what the first left behind.

    Raises:
        ValueError: The photos recipe has no data, another recipe is given some, or the version is no name.
        ManifestError: The data are to be made for a model that is named and not there, or the installation's
            placement is wrong.
    """
    here = settings()
    name = version or str(recipe)
    check_version(name)
    if flow is FlowName.DATA:
        refuse_absent(own)  # no step of these waits for them; a plan of the others tells it
    if recipe in STARTED and not own.system:
        own = own.model_copy(update={"system": remembered_system(name, Store(here.store_root)) or ""})
    made = make(recipe, own, here.web_url)
    if recipe in (*LISTED, RecipeName.PAPER) and not own.conversations:
        made = remembered_sources(made, name, Store(here.store_root), own.mixing)
    data, train = place(data_steps(made, name), here), place(train_steps(made, name), here)
    if (recipe in LISTED and not own.given) or (recipe is RecipeName.PAPER and not own.lists):
        data = remembered(data, Store(here.store_root))
    if recipe in STARTED and not (own.language_model or own.vision_model):
        train = remembered(train, Store(here.store_root))
    if recipe is RecipeName.PHOTOS and not own.given:
        listing = next(step for step in data if step.spec.stage == "list_urls").spec.parameters
        if flow is not FlowName.TRAIN and not (listing["paths"] or listing["images"]):
            raise ValueError("the photos recipe needs your data: --urls FILE_OR_GLOB or --images FOLDER_OR_TAR")
    return {FlowName.DATA: data, FlowName.TRAIN: train, FlowName.INTERNVL: [*data, *train]}[flow]


def states_of(steps: Sequence[Step], store: Store) -> dict[str, str]:
    """Return by artifact whether a step's work stands, is missing, or waits for another's."""
    return {str(step.spec.artifact): state_of(step, store) for step in steps}


def preflight(steps: Sequence[Step], store: Store, force: bool = False) -> None:
    """Find before anything starts what would be refused later.

    Raises:
        ManifestError: An input is made by none of the steps and does not stand, or a list or a model of the user's
            is missing, or a list has no such columns, or a chat training does not fit into its placement, or a
            version's name means something else.
        Drift: A version of a step stands and was made differently, and is not to be replaced.
    """
    ours = {step.spec.artifact for step in steps}
    for step in steps:
        refuse_reserved(step.spec.artifact)
    refuse_missing(steps, store)
    refuse_unreadable(steps, store)
    refuse_too_small(steps, store)
    for step in steps:
        for ref in step.spec.inputs:
            if ref not in ours:
                load(store, ref)
        if force or not all(find(store, ref) for ref in step.spec.inputs):
            continue
        try:
            standing(step.spec, store)
        except Drift as drift:
            # A rerun reads one version and writes another; a run has one name for both.
            option = "--new-version" if any(ref not in ours for ref in step.spec.inputs) else "--version"
            raise Drift(str(drift).replace("--version NAME", f"{option} NAME")) from None


def state_of(step: Step, store: Store) -> str:
    """Say whether a step stands, and if not, why."""
    if not all(find(store, ref) for ref in step.spec.inputs):
        return "waits for its inputs"
    try:
        return STANDS if standing(step.spec, store) else "missing"
    except Drift:
        return "stands with other parameters"
