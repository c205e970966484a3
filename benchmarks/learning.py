"""What the tiny recipe learns, on several seeds, beside a twin trained blind: `make seeds` after `make demo`.

Every seed trains language, contrastive and generative stages anew on the demo's shards, and InternVL-G a second
time with the pictures of other samples. Settings were chosen on the validation split; these numbers are of the
splits that no choice has seen.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.timing import publish, surroundings
from infra.cluster import InlineCluster
from infra.settings import settings
from infra.storage import Store
from pipelines.recipes import tiny
from stages import evaluate
from stages.manifest import find, load
from stages.materialize import StageSpec, materialize
from stages.ref import Ref
from stages.workspace import read_file

RESULT = Path(__file__).parent / "results" / "learning.json"
SHARDS = ("shards/clean", "shards/caption_quality")
SCENES = 512
TWIN = "blind"


def specs_of(seed: int) -> list[StageSpec]:
    """Return the stages of one seed, in order; its artifacts are `<name>@seed<n>` and `@seed<n>-blind`."""
    recipe, version = tiny.tiny("http://127.0.0.1:1"), f"seed{seed}"

    def ref(name: str, twin: str = "") -> Ref:
        return Ref(name=name, version=f"{version}{twin}" if name not in SHARDS else "tiny")

    def seeded(parameters: Any, **changed: Any) -> dict[str, Any]:
        schedule = parameters.schedule.model_copy(update={"seed": seed})
        found: dict[str, Any] = parameters.model_copy(update={"schedule": schedule, **changed}).model_dump()
        return found

    def made(stage: str, name: str, parameters: dict[str, Any], needs: Sequence[Ref], twin: str = "") -> StageSpec:
        return StageSpec(stage=stage, artifact=ref(name, twin), parameters=parameters, inputs=tuple(needs))

    language, contrastive, generative = (
        ref(f"checkpoints/{name}") for name in ("language", "contrastive", "generative")
    )
    clean, strict = (ref(name) for name in SHARDS)
    twin = ref("checkpoints/generative", f"-{TWIN}")
    judge_c, judge_g = (
        evaluate.Parameters(kind=kind, scenes=SCENES, image_size=tiny.IMAGE_SIZE).model_dump()
        for kind in ("contrastive", "generative")
    )
    return [
        made("language", "checkpoints/language", seeded(recipe.language), []),
        made("contrastive", "checkpoints/contrastive", seeded(recipe.contrastive), [clean, language]),
        made("generative", "checkpoints/generative", seeded(recipe.generative), [strict, contrastive]),
        made(
            "generative",
            "checkpoints/generative",
            seeded(recipe.generative, blind=True),
            [strict, contrastive],
            f"-{TWIN}",
        ),
        made("evaluate", "evaluations/contrastive", judge_c, [contrastive]),
        made("evaluate", "evaluations/generative", judge_g, [generative]),
        made("evaluate", "evaluations/generative", judge_g, [twin], f"-{TWIN}"),
    ]


def run_specs(seed: int, specs: Sequence[StageSpec], store: Store) -> None:
    """Train and measure one seed; what stands is kept."""
    for spec in specs:
        start = time.process_time()
        materialize(spec, store, InlineCluster())
        print(f"seed {seed}: {spec.artifact} {time.process_time() - start:.0f} CPU s", flush=True)


def measures_of(store: Store, ref: Ref) -> dict[str, dict[str, Any]]:
    """Return the rows of an evaluation by `split/language/name`."""
    manifest = load(store, ref)
    rows = json.loads(read_file(store, manifest, manifest.parts[0].files["measures"]))["measures"]
    return {f"{row['split']}/{row['language']}/{row['name']}": row for row in rows}


def collect(store: Store, seeds: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Return for every measure its value on each seed, chance, another picture, and the blind twin on each seed."""
    found: dict[str, dict[str, Any]] = {}
    for kind in ("contrastive", "generative"):
        sighted = [measures_of(store, Ref(name=f"evaluations/{kind}", version=f"seed{n}")) for n in seeds]
        twins: list[dict[str, Any]] = []
        if kind == "generative":
            twins = [measures_of(store, Ref(name=f"evaluations/{kind}", version=f"seed{n}-{TWIN}")) for n in seeds]
        for name, row in sighted[0].items():
            found[f"{kind}/{name}"] = {
                "unit": row["unit"],
                "values": [each[name]["value"] for each in sighted],
                "chance": row["chance"],
                "another_picture": [each[name]["blind"] for each in sighted],
                "blind_twin": [each[name]["value"] for each in twins],
            }
    return found


def shown(values: Sequence[float | None], unit: str) -> str:
    """Return the lowest, middle and highest of some values, as percent where they are shares."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return "–"
    factor = 100 if unit == "%" else 1
    return " / ".join(f"{factor * known[at]:.3g}" for at in sorted({0, len(known) // 2, len(known) - 1}))


def table(measures: dict[str, dict[str, Any]]) -> str:
    """Return the measures as lines: lowest, middle and highest seed, then what guessing and the twin reach."""
    lines = ["measure | seeds, low / middle / high | chance | another picture | blind twin"]
    for name, row in measures.items():
        unit = row["unit"]
        cells = (row["values"], [row["chance"]], row["another_picture"], row["blind_twin"])
        lines.append(" | ".join([name, *(shown(cell, unit) for cell in cells)]))
    return "\n".join(lines)


def spread(module: str, seeds: Sequence[int]) -> int:
    """Run a benchmark's seeds, each in a process of its own and as many at once as there are cores.

    Returns:
        How many failed.
    """
    waiting, running, failed = list(seeds), list[subprocess.Popen[bytes]](), 0
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            running.append(subprocess.Popen([sys.executable, "-m", module, "--only", str(waiting.pop(0))]))
        running[0].wait() if len(running) == 1 else time.sleep(1)
        failed += sum(bool(each.poll()) for each in running)
        running = [each for each in running if each.poll() is None]
    return failed


class Study(NamedTuple):
    """A benchmark of several seeds."""

    module: str
    needs: Sequence[str]
    """Artifacts of the demo, version `tiny`."""
    specs_of: Callable[[int], list[StageSpec]]
    collect: Callable[[Store, Sequence[int]], dict[str, dict[str, Any]]]
    table: Callable[[dict[str, dict[str, Any]]], str]
    result: Path


def run_study(study: Study, about: str | None, arguments: Sequence[str] | None) -> int:
    """Run the seeds, each in a process of its own and as many at once as there are cores; then publish."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 1 on")
    parser.add_argument("--only", type=int, help="run this seed and publish nothing")
    given = parser.parse_args(arguments)
    store = Store(settings().store_root)
    missing = [name for name in study.needs if find(store, Ref(name=name, version="tiny")) is None]
    if missing:
        print(f"{', '.join(missing)}@tiny is not in {store.root}; run `make demo` first", file=sys.stderr)
        return 2
    if given.only is not None:
        run_specs(given.only, study.specs_of(given.only), store)
        return 0
    seeds = range(1, given.seeds + 1)
    if spread(study.module, seeds):
        print("a seed failed; its message stands above, and what it made is kept", file=sys.stderr)
        return 1
    measures = study.collect(store, list(seeds))
    inputs = {name: load(store, Ref(name=name, version="tiny")).digest for name in study.needs}
    facts = {"seeds": list(seeds), "scenes_per_split": SCENES, "inputs": inputs}
    result = {**facts, **surroundings(("torch", "numpy")), "measures": measures}
    publish(result, study.table(measures), study.result)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the seeds and publish; see `run_study`."""
    study = Study("benchmarks.learning", SHARDS, specs_of, collect, table, RESULT)
    return run_study(study, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
