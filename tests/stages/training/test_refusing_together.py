"""Where one process of several cannot go on, all end at once with one exit code, and each says why."""

from pathlib import Path

import pytest
import toy_run
from forked_runs import Forks

from infra.storage import Store
from stages.manifest import ManifestError
from stages.training import gang

WORDS = {
    "disk": "refused: the state of checkpoints/contrastive@t at step 3 was not saved",
    "outage": "later: the store did not answer another process of checkpoints/contrastive@t",
    "nothing can be written": "refused: a process that trains checkpoints/contrastive@t refused, and the store did",
}


def test_processes_that_see_other_samples_refuse_together(forks: Forks, tmp_path: Path) -> None:
    before = len(forks.log.read_text()) if forks.log.exists() else 0
    assert forks.run(tmp_path, 2, job="training_jobs:one_sample_less") == [2, 2], forks.said()
    said = forks.log.read_text()[before:]
    assert said.count("process 1 has 29 samples and process 0 has 30") == 2


@pytest.mark.parametrize(
    ("how", "code"), [("disk", 2), ("outage", 75), ("nothing can be written", 2)], ids=lambda value: str(value)
)
def test_a_save_that_fails_on_one_process_ends_all_alike(forks: Forks, tmp_path: Path, how: str, code: int) -> None:
    before = len(forks.log.read_text()) if forks.log.exists() else 0
    assert forks.run(tmp_path, 2, job="training_jobs:failing_save", how=how) == [code, code], forks.said()
    said = forks.log.read_text()[before:]
    endings = [line for line in said.splitlines() if line.startswith(("refused: ", "later: "))]
    assert len(endings) == 2 and any(line.startswith(WORDS[how]) for line in endings)
    assert any("No space left" in line or "no answer" in line for line in endings), "the one that failed says how"
    if how != "nothing can be written":
        assert forks.run(tmp_path, 2) == [0, 0], forks.said()
        assert toy_run.state_keys(Store(str(tmp_path))) == []


def test_two_processes_on_one_gpu_are_refused_before_nccl_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    gang._check_gpus(2)
    with pytest.raises(ManifestError, match=r"2 processes .* it has 1; start 1, or hide the GPUs"):
        gang._check_gpus(1)
