"""What each step of a plan handles: as it came, by a pilot, as published, or reckoned from what a row takes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from filters.funnel import PAPER
from infra.storage import Store
from pipelines.amounts import Amounts, standing
from pipelines.budget import DECODED_PER_CORE, SAMPLE_BYTES, Budget
from pipelines.clusters import Gpus
from pipelines.graph import Step
from pipelines.pricing import Unknown
from pipelines.rates import clip_flops, rate
from pipelines.training_price import UTILISATION, Training
from stages.download_price import Price
from stages.manifest import Manifest, find
from stages.ref import Ref

MILLION = 10**6
PUBLISHED = "rows: Table 2 of arXiv:2312.14238"
AT_LEAST = "rows fetched: at least those that the paper kept, as its loss includes failed downloads"
WEIGHT_BYTES = 4
"""Of a parameter in a finished checkpoint: float32."""
TRAINED = (
    f"rows: steps times batch; pictures as large as in its shards, of which a core decodes {DECODED_PER_CORE:g} a "
    "second, ours; written: weights in float32"
)


class Reckoner:
    """Goes through the steps in their order: what one writes is what the next ones read."""

    def __init__(
        self,
        store: Store,
        priced: Sequence[Price | Unknown],
        trained: Sequence[Training],
        needed: Sequence[Budget],
        *,
        gpus: Gpus | None,
        published: bool,
    ) -> None:
        """Keep what is known already.

        Args:
            store: Where artifacts stand.
            priced: Downloads, by pilots.
            trained: Trainings as they are counted.
            needed: The same on a cluster.
            gpus: The cluster, for scoring.
            published: Whether the lists are the paper's, with the rows of its Table 2.
        """
        self._store, self._gpus, self._published = store, gpus, published
        self._priced = {each.source: each for each in priced if isinstance(each, Price)}
        self._trained = {each.stage: each for each in trained}
        self._known = {each.training.stage: each for each in needed if each.step_seconds}
        self._made: dict[str, Amounts] = {}

    def amounts(self, steps: Sequence[Step]) -> list[Amounts]:
        """Return what each step handles."""
        for step in steps:
            self._made[step.artifact] = self._one(step)
        return [self._made[step.artifact] for step in steps]

    def _one(self, step: Step) -> Amounts:
        made = find(self._store, step.spec.artifact)
        if made is not None:
            return self._standing(step, made)
        by_stage = {"list_urls": self._listed, "download": self._fetched, "score": self._scored}
        by_stage |= {"filter": self._judged, "write_shards": self._sharded, "export": self._exported}
        reckon = by_stage.get(
            step.spec.stage, self._trains if step.artifact.startswith("checkpoints/") else self._other
        )
        return reckon(step)

    def _standing(self, step: Step, made: Manifest) -> Amounts:
        gpu = None if step.spec.placement.get("gpus_per_worker") else 0.0
        return self._of(step, **standing(made, step.spec.inputs, self._store), gpu_hours=gpu)

    def _listed(self, step: Step) -> Amounts:
        source = _source(step)
        price, paper = self._priced.get(source), self._paper(source)
        rows = price.whole.listed if price else paper[0] if paper else None
        return self._reckoned(step, rows, rows, known="the pilot's list" if price else PUBLISHED if paper else "")

    def _fetched(self, step: Step) -> Amounts:
        source = _source(step)
        if price := self._priced.get(source):
            return self._of(
                step,
                rows_in=price.whole.rows,
                rows_out=round(price.whole.rows * price.fetched),
                requests=price.requests,
                gigabytes_in=price.gigabytes_in,
                gigabytes_out=price.gigabytes_out,
                cpu_hours=price.cpu_hours,
                source=f"of a pilot of {price.sample_urls:,} urls",
            )
        rows, paper = self._rows(step, "listing/"), self._paper(source)
        found = self._reckoned(step, rows, paper[1] if paper else None, known=AT_LEAST if paper else "", read=None)
        return replace(found, requests=rows)

    def _scored(self, step: Step) -> Amounts:
        rows = self._rows(step, "pool/")
        flops = clip_flops(step.spec.parameters["clip_model"])
        if not step.spec.placement.get("gpus_per_worker"):
            return self._reckoned(step, rows, rows, read=self._bytes(step, "pool/"))
        hours, how = None, "GPU hours of scoring are not known"
        if rows is not None and flops is not None and self._gpus is not None:
            hours = rows * flops / (self._gpus.card.tflops * 1e12 * UTILISATION) / 3600
            how = f"GPU: CLIP's {flops / 1e9:.1f} GFLOPs a pair at {UTILISATION:.0%} of the card's peak, assumed"
        return self._reckoned(step, rows, rows, known=how, read=self._bytes(step, "pool/"), gpu_hours=hours)

    def _judged(self, step: Step) -> Amounts:
        strict = step.artifact.startswith("verdicts/caption_quality/")
        rows, paper = self._rows(step, "verdicts/clean/" if strict else "signals/"), self._paper(_source(step))
        kept = (paper[2] if strict else paper[1]) if paper else None
        known = PUBLISHED if paper else "what a policy keeps is not known before it ran"
        return self._reckoned(step, rows, kept, known=known, read=self._bytes(step, "signals/"))

    def _sharded(self, step: Step) -> Amounts:
        policy = f"verdicts/{step.spec.parameters['policy']}/"
        read, kept = self._sum(step, policy, "rows_in"), self._sum(step, policy, "rows_out")
        size = None if kept is None else float(kept * SAMPLE_BYTES)
        return self._reckoned(
            step, read, kept, known=f"{SAMPLE_BYTES // 1000} kB a picture, ours", read=size, out=size
        )

    def _trains(self, step: Step) -> Amounts:
        name = step.artifact.removeprefix("checkpoints/")
        counted, timed = self._trained.get(name), self._known.get(name)
        if counted is None:
            return self._other(step)
        weights = counted.parameters * WEIGHT_BYTES / 1e9
        if not counted.samples:
            return self._of(
                step, rows_in=0, rows_out=0, gigabytes_out=weights, source="published weights, taken over"
            )
        pictures = 0 if name == "language" else counted.samples
        cpu: float | None = pictures / DECODED_PER_CORE / 3600
        if not counted.gpus:
            cpu = 24 * timed.days * step.spec.placement.get("workers", 1) if timed else None
        return self._of(
            step,
            rows_in=counted.samples,
            rows_out=0,
            gigabytes_in=pictures * self._picture_bytes(step) / 1e9 if pictures else None,
            gigabytes_out=weights,
            cpu_hours=cpu,
            gpu_hours=0.0 if not counted.gpus else timed.gpu_hours if timed else None,
            source=TRAINED,
        )

    def _exported(self, step: Step) -> Amounts:
        size = self._sum(step, "checkpoints/", "gigabytes_out")
        known = "as large as the checkpoint"
        return self._of(step, rows_in=0, rows_out=0, gigabytes_in=size, gigabytes_out=size, source=known)

    def _picture_bytes(self, step: Step) -> float:
        """Return the bytes of a picture in the shards that a training reads."""
        made = [self._input(ref) for ref in step.spec.inputs if ref.name.startswith("shards/")]
        sizes = [1e9 * each.gigabytes_out / each.rows_out for each in made if each.gigabytes_out and each.rows_out]
        return sizes[0] if sizes else float(SAMPLE_BYTES)

    def _other(self, step: Step) -> Amounts:
        gpu = None if step.spec.placement.get("gpus_per_worker") else 0.0
        return self._reckoned(step, None, None, read=None, gpu_hours=gpu)

    def _reckoned(
        self,
        step: Step,
        rows_in: int | None,
        rows_out: int | None,
        *,
        known: str = "",
        read: float | None = None,
        out: float | None = None,
        gpu_hours: float | None = 0.0,
    ) -> Amounts:
        """Return a step's amounts by its rows and by what a row takes."""
        each = rate(step.spec, self._store)
        size = out if out is not None else _times(rows_out, each.bytes_out)
        seconds = _times(rows_in, each.cpu_seconds)
        return self._of(
            step,
            rows_in=rows_in,
            rows_out=rows_out,
            gigabytes_in=None if read is None else read / 1e9,
            gigabytes_out=None if size is None else size / 1e9,
            cpu_hours=None if seconds is None else seconds / 3600,
            gpu_hours=gpu_hours,
            source="; ".join(each for each in (known, each.source if rows_in is not None else "") if each),
        )

    def _of(self, step: Step, **amounts: Any) -> Amounts:
        return Amounts(step.label, str(step.spec.artifact), _group(step), **amounts)

    def _input(self, ref: Ref) -> Amounts:
        """Return the amounts of an input; of one that no step of these makes, as it stands."""
        if ref.name not in self._made:
            made = find(self._store, ref)
            told = standing(made, (), self._store) if made else {}
            self._made[ref.name] = Amounts(ref.name, str(ref), ref.name, **told)
        return self._made[ref.name]

    def _paper(self, source: str) -> tuple[int, int, int] | None:
        """Return the rows listed, after the light and after the strict step, where the paper says them."""
        if not self._published or source not in PAPER:
            return None
        listed, light, strict = (round(millions * MILLION) for millions in PAPER[source])
        return listed, light, strict

    def _rows(self, step: Step, prefix: str) -> int | None:
        found = self._sum(step, prefix, "rows_out")
        return None if found is None else int(found)

    def _bytes(self, step: Step, prefix: str) -> float | None:
        found = self._sum(step, prefix, "gigabytes_out")
        return None if found is None else found * 1e9

    def _sum(self, step: Step, prefix: str, what: str) -> int | None:
        """Return the sum over inputs of a kind; None where one is not known."""
        values = [getattr(self._input(ref), what) for ref in step.spec.inputs if ref.name.startswith(prefix)]
        return None if not values or None in values else sum(values)


def _times(rows: int | None, one: float | None) -> float | None:
    return None if rows is None or one is None else rows * one


def _source(step: Step) -> str:
    return step.artifact.rpartition("/")[2]


def _group(step: Step) -> str:
    if step.spec.stage in ("list_urls", "download", "score"):
        return step.spec.stage
    if step.spec.stage == "filter":
        return step.label.rpartition("/")[0]
    return " ".join(dict.fromkeys(step.label.split()))
