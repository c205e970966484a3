import json
import subprocess
import sys
from pathlib import Path

import pytest

from infra.processes import Services, start_time
from infra.settings import Settings, quiet_environment, settings
from pipelines import launcher


def here(home: Path) -> Settings:
    return Settings(home=home, store_root=str(home / "store"))


def test_down_ends_only_what_is_ours(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True) as stranger:
        # The number of a dead service of ours was given to somebody else since.
        stale = {"name": "prefect", "pid": stranger.pid, "started": "1"}
        (tmp_path / "services.json").write_text(json.dumps([stale]))
        service = Services(tmp_path).start("web", [sys.executable, "-c", "import time; time.sleep(300)"], {})
        said: list[str] = []
        launcher.down(here(tmp_path), said.append)
        assert said == ["stopped web"]
        assert start_time(service.pid) is None
        assert stranger.poll() is None
        stranger.kill()


def test_a_service_that_dies_at_once_is_named_with_its_log(tmp_path: Path) -> None:
    services = Services(tmp_path)
    services.start("web", [sys.executable, "-c", "print('port taken, sorry')"], {})
    with pytest.raises(launcher.LaunchError, match=r"web did not come up; its log is .*web.log:\nport taken, sorry"):
        launcher._wait(here(tmp_path), services, "web", lambda: False, lambda _: None, tries=1)


def test_a_service_that_fails_once_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    services, said = Services(tmp_path), list[str]()
    services.start("ray", [sys.executable, "-c", "raise SystemExit(1)"], {})
    steady = [sys.executable, "-c", "import time; time.sleep(300)"]
    monkeypatch.setattr(launcher, "_commands", lambda _: {"ray": (steady, 1, lambda: True)})
    tried = []

    def healthy() -> bool:
        tried.append(1)
        return services.find("ray") is not None and len(said) > 0

    launcher._wait(here(tmp_path), services, "ray", healthy, said.append, tries=2)
    assert said == ["ray did not start (a busy machine does that); trying again"]
    assert services.stop("ray")


def test_two_clusters_on_one_machine_share_no_port(tmp_path: Path) -> None:
    def ports(name: str) -> set[str]:
        there = here(tmp_path / name)
        launcher._token(there.ray_token_path)
        command = launcher._commands(there)["ray"][0]
        return {word for word in command if "agent-listen" in word or "client-server" in word}

    assert len(ports("a") | ports("b")) == 4
    assert oct((tmp_path / "a" / "ray" / "token").stat().st_mode)[-3:] == "600"


def test_an_outside_cluster_keeps_its_own_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INTERNVL_RAY_JOBS", raising=False)
    assert "RAY_AUTH_TOKEN_PATH" in quiet_environment(here(tmp_path))
    monkeypatch.setenv("INTERNVL_RAY_JOBS", "http://cluster:8265")
    assert "RAY_AUTH_TOKEN_PATH" not in quiet_environment(here(tmp_path))
    assert here(tmp_path).ray_jobs_address == "http://cluster:8265"


def test_four_values_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
    monkeypatch.setenv("INTERNVL_STORE", "s3://bucket/prefix")
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect:4200/api")
    found = settings()
    assert (found.store_root, found.prefect_ui_url) == ("s3://bucket/prefix", "http://prefect:4200")
    assert quiet_environment(found)["PREFECT_API_URL"] == "http://prefect:4200/api"
