"""What people decided about the result of the filters: kept beside the shards, and asked for once."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel, ConfigDict

from infra.lease import Lease, LeaseHeld
from infra.storage import Store
from pipelines.graph import Step
from stages.manifest import Manifest, ManifestError, digest_of, load, sealed, unsealed
from stages.ref import Ref

KEY = "approval-"
"""How Prefect's names of our questions begin; a paused run may have been asked others by its own flow."""
LEASE_PATIENCE_SECONDS = 60.0

Digests = dict[str, str]
"""Digest of each verdicts artifact, by its reference: what a decision is about."""


class Decision(BaseModel):
    """One decision of a person."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    approved: bool
    note: str = ""
    who: str = ""
    verdicts: Digests
    flow_run: str = ""
    when: float

    @property
    def sentence(self) -> str:
        """Say it in one line."""
        day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.when))
        said = f"{'approved' if self.approved else 'rejected'} by {self.who or 'somebody'}, {day}"
        return f"{said}: {self.note}" if self.note else said


class Rejected(ManifestError):
    """A person looked at the result of the filters and does not want it trained on."""


def split(steps: Sequence[Step]) -> tuple[list[Step], list[Step]]:
    """Return the steps up to the filters, and those that wait for the approval of what these keep.

    Raises:
        ValueError: None of the steps filters, or nothing follows those that do, so there is nothing to approve.
    """
    last = max((number for number, step in enumerate(steps) if step.spec.stage == "filter"), default=-1)
    if last < 0:
        raise ValueError("nothing here filters, so there is nothing to approve; leave the approval out")
    if last == len(steps) - 1:
        raise ValueError(
            "nothing here follows the filters, so nothing waits for an approval; leave it out, or run what depends "
            "on them too (--after)"
        )
    return list(steps[: last + 1]), list(steps[last + 1 :])


def verdicts_of(steps: Sequence[Step], store: Store) -> list[Manifest]:
    """Return what the filters among some steps left."""
    return [load(store, step.spec.artifact) for step in steps if step.spec.stage == "filter"]


def digests_of(verdicts: Sequence[Manifest]) -> Digests:
    """Return what a decision about some verdicts is bound to."""
    return {str(each.ref): each.digest for each in verdicts}


def _key(shards: Ref) -> str:
    return shards.key("approvals.json")


def decisions(store: Store, shards: Ref) -> list[Decision]:
    """Return what was decided about shards, oldest first.

    Raises:
        ManifestError: What was kept is damaged.
    """
    key = _key(shards)
    if not store.exists(key):
        return []
    try:
        return [Decision.model_validate(each) for each in unsealed(store.read(key))["decisions"]]
    except (ValueError, KeyError) as error:
        raise ManifestError(
            f"{key} cannot be read: {error}; remove it, and what it approved is asked again"
        ) from error


def keep(store: Store, shards: Ref, decision: Decision) -> None:
    """Add a decision to those about shards; a flow that tells it twice adds it once."""
    with _alone(store, shards):
        before = decisions(store, shards)
        told = {(each.flow_run, each.approved, tuple(sorted(each.verdicts.items()))) for each in before}
        if (decision.flow_run, decision.approved, tuple(sorted(decision.verdicts.items()))) in told:
            return
        kept: list[dict[str, Any]] = [each.model_dump(mode="json") for each in (*before, decision)]
        store.write(_key(shards), sealed({"decisions": kept}))


@contextmanager
def _alone(store: Store, shards: Ref) -> Iterator[None]:
    """Be the only one that adds to the decisions about shards.

    Raises:
        ManifestError: Another one does, for a minute.
    """
    folder, stop = f"leases/approvals/{digest_of(str(shards))[:16]}", time.monotonic() + LEASE_PATIENCE_SECONDS
    while True:
        try:
            lease = Lease.take(store, folder, f"a decision about {shards}")
            break
        except LeaseHeld as held:
            if time.monotonic() > stop:
                raise ManifestError(f"{held}; answer again when that has ended") from held
            time.sleep(0.1)
    try:
        yield
    finally:
        lease.give_back()


def approved(store: Store, shards: Ref, digests: Mapping[str, str]) -> Decision | None:
    """Return the decision that approved exactly these verdicts, None where the last one about them did not."""
    about = [each for each in decisions(store, shards) if each.verdicts == dict(digests)]
    return about[-1] if about and about[-1].approved else None


def funnel(verdicts: Sequence[Manifest]) -> str:
    """Return how many rows each filter kept, as a markdown table narrow enough for the form of a run."""
    lines = ["| verdicts | judged | kept | share |", "| :-- | --: | --: | --: |"]
    for each in verdicts:
        judged, kept = int(each.totals["judged"]), int(each.totals["kept"])
        share = f"{kept / judged:.1%}" if judged else "–"
        name = each.ref.name.removeprefix("verdicts/").replace("/", " ").replace("_", " ")
        lines.append(f"| {name} | {judged:,} | {kept:,} | {share} |")
    return "\n".join(lines)


def dropped_by(verdicts: Manifest, most: int = 3) -> str:
    """Say which rules of a policy dropped the most rows, and how many."""
    reasons = sorted(verdicts.totals["reasons"].items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    told = ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in reasons if number)
    return f"dropped by {told}" if told else "nothing dropped"
