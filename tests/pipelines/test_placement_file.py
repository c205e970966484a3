"""An installation's own placement: over the recipe's, told by plans and runs, refused where it is wrong."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.settings import quiet_environment, settings
from infra.storage import Store
from pipelines.changes import rerun_steps
from pipelines.cli import app
from pipelines.graph import Step
from pipelines.names import FlowName, RecipeName
from pipelines.placing import placed_here
from pipelines.plan import steps_of
from stages.errors import ManifestError
from stages.materialize import identity_of

HERE = """
contrastive: {workers: 4, micro_batch_size: 8}
instruct: {checkpoint_steps: 7}
download: {max_quarantined_share: 0.01}
download cc3m: {max_quarantined_share: 0.5, part_tries: 2}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
    monkeypatch.delenv("INTERNVL_STORE", raising=False)
    monkeypatch.delenv("INTERNVL_PLACEMENT", raising=False)
    return tmp_path


def steps(flow: FlowName = FlowName.INTERNVL) -> dict[str, Step]:
    return {step.label: step for step in steps_of(flow, RecipeName.TINY)}


def test_the_file_wins_over_the_recipe_and_a_step_over_its_stage(home: Path) -> None:
    before = steps()
    (home / "placement.yaml").write_text(HERE)
    now = steps()
    own = before["contrastive"].spec.placement
    assert now["contrastive"].spec.placement == {**own, "workers": 4, "micro_batch_size": 8}
    assert now["instruct"].spec.placement == {**before["instruct"].spec.placement, "checkpoint_steps": 7}
    assert now["download coyo"].spec.placement["max_quarantined_share"] == 0.01
    one = now["download cc3m"].spec.placement
    assert (one["max_quarantined_share"], one["part_tries"], one["drift_patience_seconds"]) == (0.5, 2, 1800.0)
    assert now["score coyo"] == before["score coyo"]
    (again,) = rerun_steps("list_urls", RecipeName.TINY, ["coyo"], [], "", "", False, [])
    assert again.spec.placement == now["list_urls coyo"].spec.placement


def test_downloads_keep_to_where_there_is_a_way_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERNVL_EGRESS_RESOURCE", "egress")
    (home / "placement.yaml").write_text("download: {resources: {fast_disk: 1.0}}\nscore: {resources: {big: 1.0}}\n")
    now = steps()
    assert now["download coyo"].spec.placement["resources"] == {"egress": 0.001, "fast_disk": 1.0}
    assert now["score coyo"].spec.placement["resources"] == {"big": 1.0}


def test_it_is_no_part_of_a_result(home: Path) -> None:
    store, before = Store(str(home / "store")), steps(FlowName.DATA)["list_urls coyo"].spec
    (home / "placement.yaml").write_text("list_urls: {cpus_per_task: 2.0}\n")
    now = steps(FlowName.DATA)["list_urls coyo"].spec
    assert now.placement != before.placement and identity_of(now, store) == identity_of(before, store)


def test_a_file_elsewhere_is_named_and_must_be_there(
    home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("INTERNVL_PLACEMENT", "gpus.yaml")
    result = CliRunner().invoke(app, ["plan"])
    assert result.exit_code == 2 and f"{folder / 'gpus.yaml'} cannot be read: there is no such file" in said(
        result.output
    )
    (folder / "gpus.yaml").write_text("contrastive: {workers: 2}\n")
    assert quiet_environment(settings())["INTERNVL_PLACEMENT"] == str(folder / "gpus.yaml"), "from any folder"
    assert steps()["contrastive"].spec.placement["workers"] == 2


def test_a_file_in_a_bucket_serves_processes_that_share_no_folder(
    home: Path, s3_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_store.write("placement.yaml", b"contrastive: {workers: 2}\n")
    monkeypatch.setenv("INTERNVL_PLACEMENT", s3_store.path("placement.yaml"))
    assert steps()["contrastive"].spec.placement["workers"] == 2
    monkeypatch.setenv("INTERNVL_PLACEMENT", s3_store.path("none.yaml"))
    with pytest.raises(ManifestError, match=r"none\.yaml cannot be read: there is no such file"):
        steps()


def test_a_plan_says_what_is_placed_here(home: Path) -> None:
    assert placed_here(list(steps().values()), settings()) == []
    (home / "placement.yaml").write_text(HERE)
    told = f"placed by {home / 'placement.yaml'}: download, download cc3m, contrastive, instruct"
    assert placed_here(list(steps().values()), settings()) == [told]
    result = CliRunner().invoke(app, ["plan"], env={"COLUMNS": "300"})
    assert result.exit_code == 0 and told in said(result.output)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "contrastive: {workerz: 4}",
            "contrastive: a placement has no 'workerz'; it has activation_checkpointing",
        ),
        ("contrastive: {workers: many}", "contrastive: workers: Input should be a valid integer"),
        ("contrastive: {workers: 0}", "contrastive: min_workers 0 must lie between 1 and workers (0)"),
        ("contrastive: {min_workers: 3}", "min_workers 3 must lie between 1 and workers (1)"),
        ("download cc3m: {workers: 0}", "download cc3m: min_workers 0 must lie between 1"),
        ("contrast: {workers: 4}", "'contrast' is no stage; the stages are list_urls, download"),
        ("workers: 4", "give fields by stage or step, such as `contrastive: {workers: 8}`"),
        ("- contrastive", "give fields by stage or step"),
        ("a: [", "is no YAML"),
    ],
)
def test_what_is_no_placement_is_refused_with_its_place(home: Path, text: str, message: str) -> None:
    (home / "placement.yaml").write_text(text)
    result = CliRunner().invoke(app, ["plan"])
    assert result.exit_code == 2 and message in said(result.output), result.output
    assert str(home / "placement.yaml") in said(result.output)


def test_an_empty_file_places_nothing(home: Path) -> None:
    before = steps()
    (home / "placement.yaml").write_text("# nothing yet\n")
    assert steps() == before


def said(output: str) -> str:
    return " ".join(output.split())
