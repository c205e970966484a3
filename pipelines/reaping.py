"""The command that watches for orphans, where no `internvl up` does: beside flow workers of your own."""

import logging

from infra.settings import settings
from pipelines.options import app
from pipelines.prefect_door import join
from pipelines.terminal import clear_errors


@app.command()
def reap() -> None:
    """Stop jobs that no run waits for, until stopped; `internvl up` does so itself."""
    with clear_errors():
        join(settings())
        from pipelines.reaper import watch

        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
        watch()
