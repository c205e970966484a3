"""Which steps a later pass runs: from which version, to which, and what follows."""

from pathlib import Path

import pytest

from infra.settings import settings
from infra.storage import Store
from pipelines.changes import rerun_steps
from pipelines.graph import Step
from pipelines.later_pass import retried
from pipelines.names import RecipeName, RetryName
from pipelines.schedule import ready
from stages.errors import Missing
from stages.manifest import Ledger
from stages.outcome import TRANSIENT
from stages.ref import Ref
from stages.workspace import Output

TINY = RecipeName.TINY


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
    monkeypatch.delenv("INTERNVL_STORE", raising=False)
    return Store(settings().store_root)


def finish(store: Store, source: str, version: str = "tiny", **outcomes: int) -> None:
    """Commit a pool with these outcomes; by default two rows may come back."""
    counts = outcomes or {"fetched": 7, "dns": 2, "not_found": 1}
    kept = counts.get("fetched", 0)
    total = sum(counts.values())
    output = Output(store=store, ref=Ref(name=f"pool/{source}", version=version), stage="download", identity={})
    part = output.part("0", "d", Ledger(listed=total, kept=kept, failed=total - kept), {})
    output.commit([part], totals={"outcomes": counts})


def passes(
    *sources: str, version: str = "", new: str = "", after: bool = False, retry: str = "transient"
) -> list[Step]:
    return rerun_steps("download", TINY, sources, [], version, new, after, [retry])


def test_all_that_may_come_back_or_some_of_it() -> None:
    assert retried(["transient"]) == sorted(TRANSIENT)
    assert retried(["dns", "timeout", "dns"]) == ["dns", "timeout"]
    offered = {str(name) for name in RetryName}
    assert offered == {"transient", "fetched", *map(str, TRANSIENT)}, "the form offers what there is"


@pytest.mark.parametrize(
    ("name", "message"),
    [("not_found", "'not_found' is final"), ("later", "'later' is no outcome; --retry takes trans")],
)
def test_nothing_else_is_asked_for_again(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retried([name])


def test_a_later_pass_stands_beside_the_first_and_is_made_from_it(store: Store) -> None:
    finish(store, "coyo")
    (step,) = passes("coyo")
    assert str(step.spec.artifact) == "pool/coyo@tiny-2"
    assert [str(ref) for ref in step.spec.inputs] == ["listing/coyo@tiny", "pool/coyo@tiny"]
    assert step.spec.parameters["retry"] == sorted(TRANSIENT)


def test_a_stopped_pass_is_gone_on_with_and_a_finished_one_is_followed_by_the_next(store: Store) -> None:
    for source in ("coyo", "cc3m"):
        finish(store, source)
    finish(store, "coyo", "tiny-2")
    both = {str(step.spec.artifact): step for step in passes("coyo", "cc3m")}
    assert sorted(both) == ["pool/cc3m@tiny-2", "pool/coyo@tiny-2"], "cc3m is still to do"
    assert "pool/coyo@tiny" in map(str, both["pool/coyo@tiny-2"].spec.inputs)
    finish(store, "cc3m", "tiny-2")
    third = passes("coyo", "cc3m")
    assert {str(step.spec.artifact) for step in third} == {"pool/cc3m@tiny-3", "pool/coyo@tiny-3"}
    assert all("@tiny-2" in str(step.spec.inputs[1]) and "@tiny" in str(step.spec.inputs[0]) for step in third)


def test_a_later_pass_can_be_named_as_the_start_too(store: Store) -> None:
    finish(store, "coyo")
    finish(store, "coyo", "tiny-2")
    (step,) = passes("coyo", version="tiny-2")
    assert [str(ref) for ref in step.spec.inputs] == ["listing/coyo@tiny", "pool/coyo@tiny-2"]
    assert str(step.spec.artifact) == "pool/coyo@tiny-3"


def test_a_version_with_a_number_of_its_own_is_no_chain(store: Store) -> None:
    finish(store, "coyo", "run-7")
    (step,) = passes("coyo", version="run-7")
    assert [str(step.spec.artifact), str(step.spec.inputs[1])] == ["pool/coyo@run-7-2", "pool/coyo@run-7"]


def test_a_name_of_its_own_follows_the_newest_pass(store: Store) -> None:
    finish(store, "coyo")
    finish(store, "coyo", "tiny-2")
    (step,) = passes("coyo", new="autumn")
    assert [str(step.spec.artifact), str(step.spec.inputs[1])] == ["pool/coyo@autumn", "pool/coyo@tiny-2"]


def test_naming_a_finished_pass_runs_what_follows_it(store: Store) -> None:
    finish(store, "coyo")
    finish(store, "coyo", "tiny-2")
    steps = passes("coyo", new="tiny-2", after=True)
    assert str(steps[0].spec.artifact) == "pool/coyo@tiny-2" and str(steps[0].spec.inputs[1]) == "pool/coyo@tiny"
    assert len(steps) > 5


def test_a_pass_never_reads_itself(store: Store) -> None:
    for source in ("coyo", "cc3m"):
        finish(store, source)
    for step in passes("coyo", "cc3m", after=True):
        assert step.spec.artifact not in step.spec.inputs


def test_what_follows_reads_the_new_pool_and_the_old_rest(store: Store) -> None:
    finish(store, "coyo")
    steps = {step.artifact: step for step in passes("coyo", after=True)}
    assert "checkpoints/instruct" in steps and "pool/cc3m" not in steps
    score = {str(ref) for ref in steps["signals/coyo"].spec.inputs}
    assert {"pool/coyo@tiny-2", "listing/coyo@tiny"} <= score
    shards = {str(ref) for ref in steps["shards/clean"].spec.inputs}
    assert {"pool/coyo@tiny-2", "pool/cc3m@tiny", "verdicts/clean/coyo@tiny-2"} <= shards


def test_a_pass_starts_although_it_reads_an_artifact_of_its_own_name(store: Store) -> None:
    finish(store, "coyo")
    steps = passes("coyo", after=True)
    assert [step.artifact for step in ready(steps, steps, set())] == ["pool/coyo"]
    assert "signals/coyo" in [step.artifact for step in ready(steps, steps[1:], {"pool/coyo"})]


def test_sources_with_nothing_to_ask_for_are_left_out(store: Store) -> None:
    finish(store, "coyo")
    finish(store, "cc3m", fetched=9, not_found=1)
    assert [step.artifact for step in passes("coyo", "cc3m")] == ["pool/coyo"]
    with pytest.raises(
        ValueError, match=r"no row of pool/cc3m@tiny ended as connect, dns, .*nothing to ask for again"
    ):
        passes("cc3m")
    with pytest.raises(ValueError, match="ended as timeout: "):
        passes("coyo", retry="timeout")
    finish(store, "coyo", "tiny-2")
    (third,) = passes("coyo", "cc3m")
    assert [str(third.spec.artifact), str(third.spec.inputs[1])] == ["pool/coyo@tiny-3", "pool/coyo@tiny-2"]
    finish(store, "coyo", "tiny-3", fetched=9, not_found=1)
    with pytest.raises(ValueError, match="nothing to ask for again"):
        passes("coyo", "cc3m")


def test_a_download_that_is_not_finished_has_no_later_pass() -> None:
    with pytest.raises(Missing, match=r"pool/coyo@tiny is not finished, so there is nothing to ask for again"):
        passes("coyo")


def test_only_downloads_have_later_passes() -> None:
    with pytest.raises(ValueError, match="only downloads are passed over again, not score"):
        rerun_steps("score", TINY, [], [], retry=["transient"])


def test_a_pass_may_change_how_it_asks(store: Store) -> None:
    finish(store, "coyo")
    (step,) = rerun_steps("download", TINY, ["coyo"], ["timeout_seconds=30"], retry=["transient"])
    assert step.spec.parameters["timeout_seconds"] == 30 and step.spec.parameters["retry"]
