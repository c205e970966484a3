"""The flows as deployments of a pool of processes, as on a cluster, made and served by the commands of the docs."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from installation import Installation, wait_for

from infra.processes import Services, tail
from infra.settings import Settings, quiet_environment
from pipelines.launcher import bin_path

CODE = Path(__file__).parents[2]
NAME = "internvl"
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def run_in_a_pool(here: Installation, deployment: str, parameters: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Run a deployment in a pool of processes; return the run as Prefect knows it when it has ended."""
    with _worker(here) as log:
        found = here.api("GET", f"/deployments/name/{deployment}/{deployment}")
        begun = here.api("POST", f"/deployments/{found['id']}/create_flow_run", {"parameters": parameters})

        def ended() -> dict[str, Any] | None:
            run: dict[str, Any] = here.api("GET", f"/flow_runs/{begun['id']}")
            return run if run["state_type"] in ENDED else None

        run: dict[str, Any] = wait_for(f"the run of {deployment} to end", ended, seconds)
        assert run["state_type"] == "COMPLETED", log()
        return run


@contextmanager
def _worker(here: Installation) -> Iterator[Callable[[], str]]:
    """Serve the flows by a worker meanwhile, in place of `internvl up`'s own process; yield what tells its log."""
    Services(here.home).stop("deployments")
    ports = {name.lower(): port for name, port in here.ports.items()}
    environment = {
        **here.environment,
        **quiet_environment(Settings.model_validate({"home": here.home, "store_root": here.store.root, **ports})),
        "INTERNVL_CODE": str(CODE),
        "INTERNVL_WORK_POOL": NAME,
        "PYTHONPATH": str(CODE),
    }
    for words in (("work-pool", "create", NAME, "--type", "process"), ("--no-prompt", "deploy", "--all")):
        done = subprocess.run(
            [bin_path("prefect"), *words], cwd=CODE, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    services = Services(here.home / "worker")
    services.start("worker", [bin_path("prefect"), "worker", "start", "--pool", NAME], environment)
    try:
        yield lambda: tail(here.home / "worker" / "logs" / "worker.log", 60)
    finally:
        services.stop("worker")
