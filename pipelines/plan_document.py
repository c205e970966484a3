"""One plan: everything that `internvl plan` and the flow `plan` say of a recipe, made once and spelled twice."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.settings import settings
from infra.storage import Store
from pipelines.amount_tables import section as amounts_section
from pipelines.amounts import Amounts
from pipelines.budget import Budget, budgets
from pipelines.calibrating import calibrate_all, gpus_here, lines
from pipelines.clusters import Gpus, gpus_of
from pipelines.graph import Step
from pipelines.missing import missing, refuse_unreadable
from pipelines.names import FlowName, RecipeName
from pipelines.own_options import pilot_command
from pipelines.placing import placed_here
from pipelines.plan import states_of, steps_of
from pipelines.plan_compared import Held, compared, keep
from pipelines.plan_tables import budget_sections, compared_section
from pipelines.price_tables import price_sections, training_section
from pipelines.pricing import Unknown, prices
from pipelines.recipes import NO_DATA, OwnData
from pipelines.reckoning import Reckoner
from pipelines.rooms import too_small
from pipelines.sections import Section
from pipelines.training_price import Training, training_prices
from stages.aliases import refuse_reserved
from stages.download_price import Price
from stages.manifest import ManifestError


@dataclass(frozen=True)
class Asked:
    """What a plan is asked for."""

    flow: FlowName = FlowName.INTERNVL
    recipe: RecipeName = RecipeName.TINY
    version: str = ""
    own: OwnData = NO_DATA
    cluster: str = ""
    """As people write it; empty reckons without one."""
    dollars_per_hour: float | None = None
    mfu: float | None = None
    """Share of the cards' peak; what was measured or is assumed when None."""
    pilot: int = 0
    workers: int = 0
    host_rate: float | None = None
    calibrate: bool = False
    keep: bool = False


@dataclass(frozen=True)
class Plan:
    """What a recipe would do, and what that takes."""

    steps: tuple[Step, ...]
    states: Mapping[str, str]
    amounts: tuple[Amounts, ...]
    priced: tuple[Price | Unknown, ...]
    trained: tuple[Training, ...]
    gpus: Gpus | None
    needed: tuple[Budget, ...]
    tried: tuple[str, ...]
    """Lines about what was calibrated just now; none where nobody asked."""
    kept: tuple[str, ...]
    """Lines about forecasts that were kept just now."""
    held: Held
    missing: tuple[str, ...]
    too_small: tuple[str, ...]
    placed: tuple[str, ...]
    """A line about what this installation's file places; none where it places nothing."""

    def sections(self) -> list[Section]:
        """Return all of it as tables and remarks."""
        states = tuple(
            (step.label, name, self.states[name]) for step in self.steps if (name := str(step.spec.artifact))
        )
        return [
            Section("steps", ("step", "artifact", "state"), states, notes=self.placed, words=3),
            amounts_section(self.amounts),
            *price_sections(self.priced),
            *training_section(self.trained, hours=self.gpus is None),
            *budget_sections(self.needed, self.gpus),
            *compared_section(self.held.rows, self.held.said),
            *(Section(title, notes=lines) for title, lines in self._remarks().items() if lines),
        ]

    def _remarks(self) -> dict[str, tuple[str, ...]]:
        return {
            "calibrated": self.tried,
            "forecasts": self.kept,
            "missing": tuple(f"missing: {line}" for line in self.missing),
            "too small": tuple(f"too small: {line}" for line in self.too_small),
        }

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        known = {each.artifact: each.as_json() for each in self.amounts}
        found: dict[str, Any] = {
            "steps": [{**known[name], "state": state} for name, state in self.states.items()],
            "sources": [each.as_json() for each in self.priced],
            "training": [each.as_json() for each in self.trained],
            "missing": [*self.missing],
            "too_small": [*self.too_small],
            "placed": [*self.placed],
            "compared": {ref: [each.as_json() for each in rows] for ref, rows in self.held.rows.items()},
        }
        if self.gpus is not None or self.needed:
            found |= {"cluster": self.gpus and str(self.gpus), "budget": [each.as_json() for each in self.needed]}
        return found | ({"calibrated": [*self.tried]} if self.tried else {})


def made(asked: Asked) -> Plan:
    """Return a plan; nothing is run but the few steps of a calibration.

    Raises:
        ManifestError: Nothing can be calibrated on this machine, or there is no forecast to keep.
        ValueError: A cluster or the recipe's data are not named as they must be.
    """
    if (asked.dollars_per_hour is not None or asked.mfu is not None) and not asked.cluster:
        raise ValueError("a price and a share of the peak are about GPUs; name them with --cluster, such as 640xA100")
    gpus, store = gpus_of(asked.cluster) if asked.cluster else None, Store(settings().store_root)
    steps = steps_of(asked.flow, asked.recipe, asked.version, asked.own)
    for step in steps:
        refuse_reserved(step.spec.artifact)
    refuse_unreadable(steps, store)
    states, trained, tried = states_of(steps, store), training_prices(steps), list[str]()
    priced = prices(
        steps,
        store,
        asked.workers,
        asked.host_rate,
        asked.pilot,
        pilot_command(asked.recipe, asked.version, asked.own),
    )
    if asked.calibrate:
        gpus = gpus or gpus_here()
        tried = lines(calibrate_all(steps, store))
    needed = budgets(steps, trained, states, store, gpus, dollars_per_hour=asked.dollars_per_hour, given=asked.mfu)
    if asked.keep and not any(each.step_seconds for each in needed):
        raise ManifestError(
            "there is no forecast to keep: no speed is known; name GPUs with --cluster, or measure this machine with "
            "--calibrate"
        )
    reckoner = Reckoner(store, priced, trained, needed, gpus=gpus, published=asked.recipe is RecipeName.PAPER)
    return Plan(
        steps=tuple(steps),
        states=states,
        amounts=tuple(reckoner.amounts(steps)),
        priced=tuple(priced),
        trained=tuple(trained),
        gpus=gpus,
        needed=tuple(needed),
        tried=tuple(tried),
        kept=tuple(keep(needed, steps, store, gpus)) if asked.keep else (),
        held=compared(steps, store),
        missing=tuple(missing(steps, store)),
        too_small=tuple(too_small(steps, store)),
        placed=tuple(placed_here(steps, settings())),
    )
