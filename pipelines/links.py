"""Where a person looks while work goes on: Prefect, our pages, Ray's dashboard, TensorBoard."""

import os

from infra.settings import Settings


def links(here: Settings) -> dict[str, str]:
    """Return the addresses that a browser opens, by what is seen there; none holds a secret."""
    return {
        "runs and forms": here.prefect_ui_url,
        "reports": here.report_url,
        "lineage": f"{here.report_url}/lineage",
        "parts": f"{here.report_url}/grid",
        "checkpoints": f"{here.report_url}/checkpoints",
        "Ray dashboard": here.ray_jobs_address,
    }


def ray_asks(here: Settings) -> str:
    """Say where the token lies that our own Ray's dashboard asks for, never the token; empty for another Ray."""
    own = not os.environ.get("INTERNVL_RAY_JOBS") and here.ray_token_path.exists()
    return f"asks for the token in {here.ray_token_path}" if own else ""


def tensorboard(here: Settings) -> str:
    """Return the command that shows what this machine's trainings wrote by step."""
    return f"tensorboard --host 127.0.0.1 --logdir {here.home / 'tensorboard'}"
