"""A training is measured while it goes on, and ends with the same bits as one that nobody looks at."""

import signal
import threading
from pathlib import Path

import pytest
from followed_runs import STEPS, followed, run
from forked_runs import Forks
from real_stages import ref_of

from infra.cluster import InlineCluster
from infra.storage import Store
from stages import follow_source
from stages.catalogue import promote
from stages.follow_points import Point, best_of, read_curve
from stages.manifest import Manifest, ManifestError, find, load
from stages.materialize import materialize
from stages.ref import Ref
from stages.training import snapshots
from stages.training.flight_records import job_of
from stages.training.snapshots import snapshot_ref, take_snapshot
from stages.training.state_files import Damaged, Folder, find_states
from stages.workspace import Placement

KILLED = -signal.SIGKILL


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(follow_source, "LOOK_SECONDS", 0.1)
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))


@pytest.fixture
def store(world: Path) -> Store:
    """Open the store that the world lies in."""
    return Store(str(world / "store"))


def trained(forks: Forks, world: Path, version: str, dies_after_state: int = 0) -> None:
    """Train, to the end or until this state is published."""
    dying = {"INTERNVL_FAILPOINT": f"after_state:kill:{dies_after_state}"} if dies_after_state else {}
    codes = forks.run(world, environment=dying, job="followed_runs:train", version=version)
    assert codes == [KILLED if dies_after_state else 0], forks.said()


def files_of(manifest: Manifest) -> dict[str, str]:
    return {role: file.sha256 for role, file in manifest.parts[0].files.items()}


def steps_of(manifest: Manifest) -> list[int]:
    return [Point.of(part).step for part in manifest.parts]


def newest(store: Store, version: str) -> Folder:
    whole = find_states(store, job_of(store, ref_of("contrastive", version), Placement()).state).whole
    return whole[max(whole)]


@pytest.fixture(scope="module")
def alone(forks: Forks, world: Path) -> dict[str, str]:
    """Return the files of a training that nobody looked at."""
    trained(forks, world, "alone")
    return files_of(load(Store(str(world / "store")), ref_of("contrastive", "alone")))


def test_a_training_ends_alike_with_and_without(
    forks: Forks, world: Path, store: Store, alone: dict[str, str]
) -> None:
    training = threading.Thread(target=trained, args=(forks, world, "watched"))
    training.start()
    made = run(store, "watched")
    training.join()
    assert files_of(load(store, ref_of("contrastive", "watched"))) == alone
    points = [Point.of(part) for part in made.parts]
    # What is measured last is the finished checkpoint, or the state of its last step, which is the same.
    assert points[-1].step == STEPS
    assert made.ledger.rejected == sum(point.passed_over for point in points) == made.totals["passed_over"]
    assert read_curve(store, ref_of("contrastive", "watched")) == points
    assert "unseen_en_choose_relation" in points[-1].metrics


def test_a_snapshot_is_what_the_training_would_publish(
    forks: Forks, world: Path, store: Store, alone: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(forks, world, "last", dies_after_state=4)
    folder = newest(store, "last")
    fill = snapshots._fill

    def removing(*given: object) -> None:
        folder.remove()  # as the training does that has newer ones
        fill(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(snapshots, "_fill", removing)
    job = job_of(store, ref_of("contrastive", "last"), Placement())
    made = take_snapshot(job, folder, tmp_path)
    assert made.ref == snapshot_ref(job.output.ref, STEPS) and files_of(made) == alone
    promote(store, made.ref, "good")
    assert load(store, Ref(name=made.ref.name, version="good")).digest == made.digest


def test_a_state_that_is_gone_is_passed_over(forks: Forks, world: Path, store: Store, tmp_path: Path) -> None:
    trained(forks, world, "gone", dies_after_state=4)
    job = job_of(store, ref_of("contrastive", "gone"), Placement())
    folder = newest(store, "gone")
    (tensors,) = [key for key in store.keys(f"{folder.root}/{folder.name}") if key.endswith(".safetensors")]
    store.remove(tensors)
    with pytest.raises(Damaged, match="is gone"):
        take_snapshot(job, folder, tmp_path)
    with pytest.raises(ManifestError, match="no sign of life"):
        run(store, "gone", patience_seconds=1, evaluations=[])
    (point,) = read_curve(store, job.output.ref)
    assert (point.step, point.passed_over) == (9, 2)


def test_it_goes_on_where_it_was(forks: Forks, world: Path, store: Store) -> None:
    trained(forks, world, "resumed", dies_after_state=2)
    given = {"patience_seconds": 1, "best": "training.last_loss", "best_is": "lower"}
    # Killed when the snapshot stands and nothing of it is measured; the training goes on, and removes the state.
    dying = {"INTERNVL_FAILPOINT": "after_manifest:kill:1"}
    codes = forks.run(world, environment=dying, job="followed_runs:follow_alone", version="resumed", **given)
    assert codes == [KILLED], forks.said()
    training = ref_of("contrastive", "resumed")
    taken = load(store, snapshot_ref(training, 6))
    newest(store, "resumed").remove()
    with pytest.raises(ManifestError, match="no sign of life for 1 s"):
        run(store, "resumed", **given)
    assert [point.step for point in read_curve(store, training)] == [6]
    assert load(store, taken.ref).digest == taken.digest
    trained(forks, world, "resumed")
    made = run(store, "resumed", **given)
    first, last = (Point.of(part) for part in made.parts)
    assert (first.step, last.step, first.passed_over) == (6, STEPS, 1)
    best = min(first, last, key=lambda point: point.metrics["training.last_loss"])
    assert made.totals["best_checkpoint"] == str(best.checkpoint)
    assert (find(store, taken.ref) is not None) == (best is first)


def test_an_unknown_metric_is_refused_with_those_there_are(forks: Forks, world: Path, store: Store) -> None:
    trained(forks, world, "metric", dies_after_state=1)
    with pytest.raises(ManifestError, match=r"no metric 'accuracy' .*training\.last_loss"):
        run(store, "metric", best="accuracy", patience_seconds=1)
    assert read_curve(store, ref_of("contrastive", "metric")) == []


def test_a_training_that_does_not_begin(store: Store) -> None:
    with pytest.raises(ManifestError, match=r"contrastive@never was not trained within 0\.2 s"):
        materialize(followed("never", patience_seconds=0.2), store, InlineCluster())


def point(step: int, **metrics: float) -> Point:
    checkpoint = Ref(name="checkpoints/contrastive", version=f"t.step-{step}")
    return Point(step=step, number=step, passed_over=0, checkpoint=checkpoint, metrics=metrics)


def test_the_best_of_equals_is_the_earliest() -> None:
    points = [point(3, top1=0.5), point(9, top1=0.7), point(6, top1=0.7), point(12)]
    assert best_of(points, "top1", "higher").step == 6
    assert best_of(points, "top1", "lower").step == 3
    assert best_of(points, None, "higher").step == 12
