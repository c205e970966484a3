"""What every flow of ours does when it ends, in whatever way."""

from typing import Any

from pipelines.notices import failed, finished
from pipelines.steps import stop_jobs

HOOKS: dict[str, Any] = {
    "on_cancellation": [stop_jobs],
    "on_failure": [failed],
    # Not `stop_jobs`: the jobs of a run whose process died go on, and a retry finds them again.
    "on_crashed": [failed],
    "on_completion": [finished],
}
