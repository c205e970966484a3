"""What travels to the processes that train together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stages.manifest import Manifest, ManifestError
from stages.training.schedule import Schedule
from stages.training.task import Task
from stages.workspace import Output, Placement, Workspace


@dataclass(frozen=True)
class Job:
    """One training run: who builds the task, from what, and where its checkpoint goes."""

    build: Callable[[Any, Workspace], Task]
    parameters: Any
    inputs: dict[str, Manifest]
    output: Output
    placement: Placement
    digest: str

    @property
    def schedule(self) -> Schedule:
        """What the stage decided about its steps."""
        found: Schedule = self.parameters.schedule
        return found

    @property
    def state(self) -> str:
        """Return the key of the folder that holds what a restart goes on from."""
        return self.output.ref.key(f"state/{self.output.config_digest[:12]}-{self.digest[:12]}")

    @property
    def refusal(self) -> str:
        """Return the key under which a worker says why it will not train."""
        return f"{self.state}/refusal.txt"

    def refuse(self, error: ManifestError) -> None:
        """Write why this run cannot go on; a refusal is final, trying again would say the same.

        Raises:
            StorageError: The store does not take it.
        """
        self.output.store.write(self.refusal, str(error).encode())
