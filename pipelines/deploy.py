"""Register the flows with Prefect and run what people start from its UI."""

import threading
from typing import Any

from prefect import serve

from pipelines import reaper
from pipelines.data import build_data
from pipelines.evaluate import evaluate
from pipelines.internvl import build_everything
from pipelines.pilot import run_pilot
from pipelines.planned import plan
from pipelines.rerun import rerun
from pipelines.train import train_models
from pipelines.variants import compare_variants
from pipelines.what_if import what_if


def deployments() -> list[Any]:
    """Return the flows as people find them in the UI; `prefect.yaml` has the same for a cluster's work pools."""
    return [
        build_data.to_deployment("data", description="From url lists to training shards."),
        train_models.to_deployment("train", description="From training shards to a chat model."),
        build_everything.to_deployment("internvl", description="The whole road: url lists in, chat model out."),
        evaluate.to_deployment("evaluate", description="The paper's benchmarks on a checkpoint, or on a recipe's."),
        what_if.to_deployment("whatif", description="What other thresholds would keep, without running anything."),
        run_pilot.to_deployment("pilot", description="A few urls of each source, to price the whole lists."),
        plan.to_deployment("plan", description="What a recipe would do and take: rows, bytes, memory, time, money."),
        compare_variants.to_deployment("variants", description="Encoders of one size, trained alike and compared."),
        rerun.to_deployment("rerun", description="One stage again, and if wanted everything after it."),
    ]


def main() -> None:
    """Serve the deployments until stopped, and reap what nobody waits for."""
    # A thread here rather than a process of its own: Prefect's client alone weighs 200 MB.
    threading.Thread(target=reaper.watch, name="reaper", daemon=True).start()
    serve(*deployments(), query_seconds=2, print_starting_message=False)


if __name__ == "__main__":
    main()
