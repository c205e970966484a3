"""Guard, flight recorder and meters, as the training loop asks them: once per step, before its update."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from stages.aside import store_aside
from stages.manifest import ManifestError
from stages.training.curves import curves_key, page
from stages.training.flight import Recorder, seen_of
from stages.training.flight_records import flight_key, run_key, told
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
        self._worst: list[str] = []
        if gang.is_first:
            store_aside(gang.job.output.store, run_key(gang.job.output.ref), told(gang.job))
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
        self._worst = self._recorder.event(step, seen, verdict)
        if verdict.act is Act.STOP:
            raise self._stop(verdict, "trouble again", verdict.reason)
        return verdict

    def no_way_back(self, verdict: Verdict) -> ManifestError:
        """Return why a run that should go back cannot."""
        placement = self._gang.job.placement
        saved = (
            f"no state of step {verdict.first} or before stands, so the run cannot go back "
            f"(placement.checkpoint_steps {placement.checkpoint_steps}, states_kept {placement.states_kept})"
        )
        return self._stop(verdict, "trouble", f"{verdict.reason}; {saved}")

    def extras(self) -> dict[str, Any]:
        """Return what a saved state must hold for this run to go on alike."""
        return {"guard": self.guard.state(), "loss_means": self._meters.means()}

    def restore(self, done: int, extras: Mapping[str, Any]) -> None:
        """Go on after so many steps with what `extras` returned there; with nothing, at the start."""
        if extras:
            self.guard.restore(extras["guard"])
        self._meters.restore(done, extras.get("loss_means", {}))

    def rolled_back(self, verdict: Verdict, done: int, extras: Mapping[str, Any]) -> None:
        """Note that the state after `done` steps was restored: the data of the trouble is left out from now on."""
        self.guard.restore(extras["guard"], keep_detours=True)
        self.guard.rolled_back(verdict.step, done)
        self._meters.restore(done, extras["loss_means"])

    def publish(self, history: list[Metrics]) -> None:
        """Write meters and curves into the store."""
        meters = self._meters.publish()
        if self._gang.is_first and history:
            output = self._gang.job.output
            store_aside(output.store, curves_key(output.ref), page(str(output.ref), history, meters).encode())

    def close(self) -> None:
        """Tell no more."""
        self._sinks.close()

    def _stop(self, verdict: Verdict, what: str, reason: str) -> ManifestError:
        job, step = self._gang.job, verdict.step + 1
        rate = job.schedule.learning_rate
        ref = job.output.ref
        return ManifestError(
            f"{ref}: {what} at step {step}: {reason}. Samples with the highest losses: {', '.join(self._worst)}. "
            f"The weights are as before it. {flight_key(ref)} tells of the steps around it, and `internvl "
            f"explain-spike {ref} --step {step}` computes it again. Look at these samples; then halve "
            f"schedule.learning_rate ({rate:g} -> {rate / 2:g}) and train again"
        )
