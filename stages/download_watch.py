"""A cluster that stops handing out parts of a download when an outcome jumps, and goes on when it is over.

A part made in an outage is not published: its work is handed an output that judges it first. It is
made again once a small canary of its urls, and of urls that worked, says that the outage is over. A
part that jumps once more after that is published, because the web may really be so.
"""

import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from typing import Any, cast

from infra.cluster import Cluster
from stages.download_canary import Canary, draw_canary, ended
from stages.download_drift import Baseline, Jump, judge, recovered
from stages.manifest import Ledger, ManifestError, Part
from stages.outcome import Outcome
from stages.output import Data
from stages.quantities import duration
from stages.quarantine import is_quarantined
from stages.workspace import Output, Workspace

FIRST_SECONDS, LONGEST_SECONDS = 5.0, 300.0
MAX_SUSPECT = 2
SAVE_SECONDS = 5.0
SUSPECT = "suspect"
_CHECK = {
    Outcome.DNS: "check the resolver of the workers, or lower download.threads",
    Outcome.CONNECT: "check the network of the workers",
    Outcome.TIMEOUT: "check the bandwidth of the workers, or lower download.threads",
    Outcome.RATE_LIMITED: "lower the rate per host",
    Outcome.FORBIDDEN: "see whether the workers' address has been blocked",
}


@dataclass(frozen=True)
class CarefulOutput(Output):
    """Publishes a part unless its outcomes jump against the baseline; then it only says so."""

    baseline: Baseline = field(default_factory=Baseline)
    lenient: bool = False

    def part(
        self,
        key: str,
        input_digest: str,
        ledger: Ledger,
        files: Mapping[str, tuple[str, Data]],
        facts: Mapping[str, Any] | None = None,
    ) -> Part:
        """Publish one part, or return it without files and with the jump among its facts."""
        jump = None if self.lenient else judge(self.baseline, dict(facts or {}).get("outcomes", {}))
        if jump is None:
            return super().part(key, input_digest, ledger, files, facts)
        told = {**dict(facts or {}), SUSPECT: asdict(jump), "ended": ended(files)}
        return Part(key=key, input_digest=input_digest, ledger=ledger, files={}, facts=told)


def _carefully(
    entry: tuple[Any, Baseline, bool], work: Callable[..., Part], output: Output
) -> tuple[Part, float, float]:
    """Make one part with an output that judges it; return it with the CPU and wall seconds that it took."""
    item, baseline, lenient = entry
    given = {each.name: getattr(output, each.name) for each in fields(output)}
    cpu, wall = time.process_time(), time.monotonic()
    part = work(item, output=CarefulOutput(**given, baseline=baseline, lenient=lenient))
    return part, time.process_time() - cpu, time.monotonic() - wall


@dataclass
class Seen:
    """What a download has seen so far, over all its runs; kept beside the artifact, never in its manifest."""

    rows: int = 0
    kept: int = 0
    urls: int = 0
    cpu_seconds: float = 0.0
    work_seconds: float = 0.0
    baseline: dict[str, float] = field(default_factory=dict)
    pauses: list[dict[str, Any]] = field(default_factory=list)

    def add(self, part: Part, cpu_seconds: float, work_seconds: float, anew: bool) -> None:
        """Count a published part; `anew` takes it for how the web is from now on."""
        counts = part.facts.get("outcomes", {})
        self.rows += part.ledger.listed
        self.kept += part.ledger.kept
        self.urls += part.facts.get("urls", {}).get("distinct", part.ledger.listed)
        self.cpu_seconds += cpu_seconds
        self.work_seconds += work_seconds
        before = Baseline(self.baseline)
        self.baseline = dict((Baseline.at(counts) if anew else before.learn(counts)).counts)


class Watched:
    """Hands out the parts of one download, and pauses in an outage."""

    def __init__(
        self,
        here: Workspace,
        output: Output,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Go on from what an earlier run of the same work has seen, where parts of it stand."""
        self._here, self._output, self._inner = here, output, here.cluster
        self._sleep, self._clock = sleep, clock
        self._key = output.ref.key("measures/watch.json")
        self.seen = self._load()
        self._began, self._saved, self._before = clock(), clock(), replace(self.seen)
        self._paused_seconds, self._made = 0.0, 0
        self._at: tuple[float, float, str] = (0, 0, "parts")
        self._jump: Jump | None = None
        # Pictures that are on this machine need no network, so nothing about them is an outage.
        self._lenient = bool(output.identity.get("parameters", {}).get("images"))
        self._good: Part | None = None

    def map(self, work: Callable[..., Part], items: Iterable[Any], **needs: Any) -> Iterator[Part]:
        """Yield published parts in the order of completion.

        Args:
            work: Takes an item and the keywords `output` and `listing`, as a partial does that has them.
            items: Each begins with the key of its part.
            needs: Of one work: CPUs, GPUs and a cluster's own resources.

        Raises:
            ManifestError: An outcome jumped and did not come back in time; what is published stays.
        """
        todo, tries, out = deque(items), Counter[str](), dict[str, Any]()
        if lost := needs.get("lost"):
            needs["lost"] = lambda entry, error: (lost(entry[0], error), 0.0, 0.0)
        if len(todo) == len(self._here.input("listing").parts):
            # Nothing stands, so nothing is gone on from: it may be made again by force.
            self.seen, self._before = Seen(), Seen()
        try:
            while todo:
                suspects: list[Part] = []
                entries = self._hand_out(todo, tries, out)
                made = self._inner.map(partial(_carefully, work=work, output=self._output), entries, **needs)
                for part, cpu, wall in made:
                    if SUSPECT in part.facts:
                        self._jump = Jump(**part.facts[SUSPECT])
                        suspects.append(part)
                        continue
                    if is_quarantined(part):
                        out.pop(part.key)
                        yield part
                        continue
                    # A part that is published although it was suspect shows how the web is now.
                    self.seen.add(part, cpu, wall, anew=tries[part.key] >= MAX_SUSPECT)
                    self._made, self._good = self._made + 1, part
                    out.pop(part.key)
                    self._save()
                    yield part
                for part in sorted(suspects, key=lambda each: each.key, reverse=True):
                    tries[part.key] += 1
                    todo.appendleft(out.pop(part.key))
                if suspects:
                    self._wait_out(work, min(suspects, key=lambda each: each.key), **needs)
        finally:
            self._save(now=True)

    def _hand_out(
        self, todo: deque[Any], tries: Counter[str], out: dict[str, Any]
    ) -> Iterator[tuple[Any, Baseline, bool]]:
        """Yield items while nothing jumps; those that are out come back before a pause begins."""
        self._jump = None
        while todo and self._jump is None:
            item = todo.popleft()
            out[item[0]] = item
            lenient = self._lenient or tries[item[0]] >= MAX_SUSPECT
            yield item, Baseline(self.seen.baseline), lenient

    def _wait_out(self, work: Callable[..., Part], suspect: Part, **needs: Any) -> None:
        """Return when a canary says that what jumped is over."""
        jump, began, delay = Jump(**suspect.facts[SUSPECT]), self._clock(), FIRST_SECONDS
        patience = self._here.placement.drift_patience_seconds
        needs = {name: need for name, need in needs.items() if name not in ("lost", "tries")}
        canary = draw_canary(self._here.input("listing"), self._output, suspect, self._good, jump.outcome)
        self.seen.pauses.append({**asdict(jump), "part": suspect.key, "seconds": 0.0})
        try:
            while True:
                left = patience - (self._clock() - began)
                if left <= 0:
                    raise ManifestError(self._gave_up(jump, suspect.key, patience))
                self.progress(*self._at, f"paused, {jump}; asks again in {min(delay, left):.0f} s")
                self._sleep(min(delay, left))
                if self._is_over(work, canary, jump, **needs):
                    return
                delay = min(2 * delay, LONGEST_SECONDS)
        finally:
            canary.remove()
            self.seen.pauses[-1]["seconds"] = round(self._clock() - began, 1)
            self._paused_seconds += self._clock() - began
            self._save(now=True)

    def _is_over(self, work: Callable[..., Part], canary: Canary, jump: Jump, **needs: Any) -> bool:
        (outcomes,) = self._inner.map(partial(Canary.ask, work=work), [canary], **needs)
        return recovered(jump.outcome, *canary.counts(outcomes))

    def _gave_up(self, jump: Jump, key: str, patience: float) -> str:
        check = _CHECK.get(Outcome(jump.outcome), "check the network of the workers")
        return (
            f"{self._output.ref}: from part {key} on, {jump}; it did not get better in {patience:,.0f} seconds. "
            f"What was fetched until then is kept, what was not is not counted as failed. {check[0].upper()}"
            f"{check[1:]}, then run the same command to go on; INTERNVL_DRIFT_PATIENCE_SECONDS makes it wait longer"
        )

    def progress(self, done: float, total: float, unit: str, note: str = "") -> None:
        """Pass progress on, with the rate, the remaining time and the share fetched so far."""
        self._at = done, total, unit
        self._here.progress(done, total, unit, note or self.note(done, total))

    def note(self, done: float, total: float) -> str:
        """Return rate, remaining time and share fetched as one line."""
        seconds = max(self._clock() - self._began - self._paused_seconds, 1e-6)
        if not self._made:
            return ""
        rate = (self.seen.urls - self._before.urls) / seconds
        left = (total - done) * seconds / self._made
        fetched = 100 * self.seen.kept / max(self.seen.rows, 1)
        words = [f"{rate:,.0f} urls/s" if rate >= 10 else f"{rate:.1f} urls/s"]
        return ", ".join([*words, *([f"{duration(left)} left"] if done < total else []), f"{fetched:.1f} % fetched"])

    def _load(self) -> Seen:
        if not self._here.store.exists(self._key):
            return Seen()
        record = json.loads(self._here.store.read(self._key))
        # Only what stands is gone on from; other work under the same name starts anew.
        return Seen(**record["seen"]) if record["config"] == self._output.config_digest else Seen()

    def _save(self, now: bool = False) -> None:
        if now or self._clock() - self._saved >= SAVE_SECONDS:
            self._saved = self._clock()
            record = {"config": self._output.config_digest, "seen": asdict(self.seen)}
            self._here.store.write(self._key, json.dumps(record).encode())


def watched(here: Workspace, output: Output) -> Workspace:
    """Return a workspace whose cluster pauses in an outage, and whose progress tells rate and remaining time."""
    watch = Watched(here, output)
    # It maps parts alone, so it is a cluster for `map_parts` and for nothing else.
    return replace(here, cluster=cast(Cluster, watch), progress=watch.progress)
