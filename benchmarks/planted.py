"""Precision and recall of every rule against the dirt that drawn webs plant, on webs of three seeds.

    python -m benchmarks planted

Each web is listed, downloaded, scored and judged by the tiny recipe's own steps; counts of its sources are added up
rule by rule. What is published here is the ground on which the floors of `benchmarks.planted_floors` stand.
"""

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.planted_floors import PAGE, page
from benchmarks.timing import publish, surroundings
from filters.policies import Policy
from infra.cluster import InlineCluster
from infra.storage import Store
from pipelines.graph import data_steps
from pipelines.recipes.recipe import Recipe, SourceRecipe
from pipelines.recipes.tiny import tiny
from stages.manifest import Manifest
from stages.materialize import materialize
from stages.planted import Counts, added
from stages.sources.web_server import make_server
from stages.sources.web_site import DEFAULT_ROWS, SiteSpec

RESULTS = Path(__file__).parent / "results" / "planted.json"
SEEDS = (0, 1, 2)
LATER = ("verdicts/caption_quality", "shards")


@contextmanager
def drawn_web(seed: int, rows: dict[str, int]) -> Iterator[str]:
    """Serve the web of a seed, and yield its address."""
    server = make_server("127.0.0.1", 0, SiteSpec(seed=seed, rows=rows))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def every_rule(recipe: Recipe) -> Recipe:
    """Return a recipe whose light step holds the rules of the strict one too.

    Else the strict rules would be asked only about what the light ones left, which of some dirt is nothing.
    """

    def whole(source: SourceRecipe) -> SourceRecipe:
        rules = (*source.clean.filters, *source.caption_quality.filters)
        return source.model_copy(update={"clean": Policy(name="clean", filters=rules)})

    return recipe.model_copy(update={"sources": tuple(map(whole, recipe.sources))})


def judged(recipe: Recipe, store: Store) -> list[Manifest]:
    """Return the verdicts of a recipe's first policy, made in this process."""
    steps = [step for step in data_steps(recipe, "drawn") if not step.artifact.startswith(LATER)]
    made = [materialize(step.spec, store, InlineCluster(), progress=False) for step in steps]
    return [manifest for manifest in made if manifest.stage == "filter"]


def measure(seed: int, rows: dict[str, int] | None = None) -> dict[str, Counts]:
    """Return the counts of every rule on the web of a seed, all sources together."""
    rows = rows or DEFAULT_ROWS
    with tempfile.TemporaryDirectory() as folder, drawn_web(seed, rows) as address:
        verdicts = judged(every_rule(tiny(address, rows, seed)), Store(folder))
    return added(each.totals["planted"] for each in verdicts)


def main(seeds: Sequence[int] = SEEDS, path: Path = RESULTS) -> None:
    """Measure, write the JSON and the page, print the table."""
    result: dict[str, Any] = {**surroundings(("torch", "pyarrow")), "rows": DEFAULT_ROWS}
    result["seeds"] = {str(seed): measure(seed) for seed in seeds}
    publish(result, page(result), path)
    PAGE.write_text(page(result))


if __name__ == "__main__":
    main()
