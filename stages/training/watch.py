"""Guard, flight recorder and meters, as the training loop asks them: once per step, before its update."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from stages.manifest import ManifestError
from stages.training.curves import publish_curves
from stages.training.flight import Recorder, flight_key, seen_of
from stages.training.gang import Gang
from stages.training.guard import Act, Guard, Verdict
from stages.training.loading import Step
from stages.training.meters import Meters
from stages.training.placing import Placed
from stages.training.sinks import Sinks
from stages.training.task import BatchMaker, Metrics


class Watch:
    """Watches one process's part of a run; all processes call the same, in the same order."""

    def __init__(self, gang: Gang, placed: Placed, batches: BatchMaker) -> None:
        """Watch over a placed model."""
        self._gang = gang
        self.guard = Guard(gang.job.schedule.guard)
        self._sinks = Sinks(gang.job.output.ref, first=gang.is_first)
        self._recorder = Recorder(gang, placed, batches)
        self._meters = Meters(gang, placed, batches, self._sinks)

    def judge(self, step: Step, rate: float, values: Metrics, losses: Mapping[str, Tensor]) -> Verdict:
        """Say what becomes of a step whose gradients lie on the weights, before its update.

        Args:
            step: What it was computed from.
            rate: Its learning rate.
            values: Scalars, `loss` and `grad_norm` among them, equal on all processes.
            losses: This process's own, perhaps with `sample_loss`.

        Raises:
            ManifestError: Going back once did not help; a person must look.
        """
        seen = seen_of(step, self.guard.position(step.number), rate, values, losses)
        self._meters.before_update(step, seen)
        verdict = self.guard.look(step.number, values["loss"], values["grad_norm"])
        if verdict.act is Act.TAKE:
            self._recorder.took(seen)
            return verdict
        worst = self._recorder.event(step, seen, verdict)
        if verdict.act is Act.STOP:
            raise self._stop(step.number, verdict.reason, worst, "trouble again")
        return verdict

    def no_way_back(self, step: int, verdict: Verdict) -> ManifestError:
        """Return why a run that should go back cannot."""
        return self._stop(
            step,
            f"{verdict.reason}; no state of step {verdict.first} or before was saved, so it cannot go back "
            f"(placement.checkpoint_steps is {self._gang.job.placement.checkpoint_steps})",
            [],
            "trouble",
        )

    def extras(self) -> dict[str, Any]:
        """Return what a saved state must hold for this run to go on alike."""
        return {"guard": self.guard.state(), "loss_means": self._meters.means()}

    def restore(self, done: int, extras: Mapping[str, Any]) -> None:
        """Go on after so many steps with what `extras` returned there; with nothing, at the start."""
        if extras:
            self.guard.restore(extras["guard"])
        self._meters.restore(done, extras.get("loss_means", {}))

    def rolled_back(self, step: int, done: int, extras: Mapping[str, Any]) -> None:
        """Note that the state after `done` steps was restored because of `step`: its data is left out from now on."""
        self.guard.restore(extras["guard"], keep_detours=True)
        self.guard.rolled_back(step, done)
        self._meters.restore(done, extras["loss_means"])

    def publish(self, history: list[Metrics]) -> None:
        """Write meters and curves into the store."""
        meters = self._meters.publish()
        if self._gang.is_first and history:
            publish_curves(self._gang.job.output.store, self._gang.job.output.ref, history, meters)

    def close(self) -> None:
        """Tell no more."""
        self._sinks.close()

    def _stop(self, step: int, reason: str, worst: list[str], what: str) -> ManifestError:
        job = self._gang.job
        half = job.schedule.learning_rate / 2
        samples = f" (samples with the highest losses: {', '.join(worst)})" if worst else ""
        return ManifestError(
            f"{job.output.ref}: {what} at step {step + 1}: {reason}{samples}. The weights are as before it. "
            f"{flight_key(job.output.ref)} tells of the steps around it, `internvl explain-spike {job.output.ref} "
            f"--step {step + 1}` computes it again. Look at these samples; then halve schedule.learning_rate "
            f"({job.schedule.learning_rate:g} -> {half:g}) and train again"
        )
