"""The command that watches for orphans, where no `internvl up` does: beside flow workers of your own."""

import logging
import os

from infra.settings import quiet_environment, settings
from pipelines.options import app
from pipelines.terminal import clear_errors


@app.command()
def reap() -> None:
    """Stop jobs that no run waits for, until stopped; `internvl up` does so itself."""
    with clear_errors():
        # Before Prefect is imported, which reads its settings then.
        os.environ.update(quiet_environment(settings()))
        from pipelines.reaper import watch

        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
        watch()
