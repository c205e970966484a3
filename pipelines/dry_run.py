"""A dry run: the steps that would run, and what they would cost, as an artifact of the run; nothing is done."""

from collections.abc import Container, Sequence

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from infra.settings import settings
from infra.storage import Store
from pipelines import sections
from pipelines.graph import Step
from pipelines.plan import STANDS, preflight, state_of
from pipelines.price_tables import price_sections, training_section
from pipelines.pricing import prices
from pipelines.sections import Section

AGAIN = "is made again"


def markdown(steps: Sequence[Step], store: Store, force: bool = False) -> str:
    """Return the steps with their states, and what those of them cost that would run, as markdown tables.

    Args:
        steps: The steps of the run.
        store: Where artifacts stand.
        force: Whether what stands is made again.
    """
    states = {step.artifact: state_of(step, store) for step in steps}
    told = {name: AGAIN if force and state.startswith(STANDS) else state for name, state in states.items()}
    rows = [(step.label, str(step.spec.artifact), told[step.artifact]) for step in steps]
    found = [Section("what would run", ("step", "artifact", "state"), tuple(rows), words=3)]
    running = {name for name, state in told.items() if state != STANDS}
    found += price_sections(prices([step for step in steps if step.artifact in running], store))
    return sections.markdown([*found, *_trainings(steps, running)])


def _trainings(steps: Sequence[Step], running: Container[str]) -> list[Section]:
    from pipelines.training_price import training_prices  # imports torch, which serving can spare

    # All are looked at, as one's shape follows from another's; only those that would run are told.
    found = [each for each in training_prices(steps) if f"checkpoints/{each.stage}" in running]
    return training_section(found, hours=True)


def show(steps: Sequence[Step], force: bool = False) -> list[str]:
    """Put the priced steps on the run's page and into its log; return no references, as nothing is made.

    Raises:
        ManifestError: The run would be refused.
        Drift: The same.
    """
    store = Store(settings().store_root)
    preflight(steps, store, force)
    text = markdown(steps, store, force)
    create_markdown_artifact(text, key="dry-run")
    get_run_logger().info("a dry run, nothing was done\n%s", text)
    return []
