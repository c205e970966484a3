"""Every server of an installation: shut to whoever shows nothing, something wrong, or a page of another site."""

import urllib.error
import urllib.request
from collections.abc import Mapping

import pytest
from canaries import files_below, leaks
from installation import Installation

from infra.settings import Settings
from pipelines.health import basic
from pipelines.launcher import ray_folder

pytestmark = pytest.mark.timeout(1800)
ELSEWHERE = {"Origin": "http://elsewhere.example"}
BROWSER = {"User-Agent": "Mozilla/5.0", "Sec-Fetch-Mode": "cors"}


def status(url: str, headers: Mapping[str, str], body: bytes | None = None) -> int:
    """Return what a server answers, which may not be that any other site may read it."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as response:
            told, found = response.headers, int(response.status)
    except urllib.error.HTTPError as error:
        told, found = error.headers, error.code
    assert told.get("Access-Control-Allow-Origin") not in ("*", ELSEWHERE["Origin"])
    return found


@pytest.mark.parametrize("wrong", [{}, basic("internvl:wrong"), {"Authorization": "Bearer wrong"}])
def test_prefect_answers_those_alone_who_know_the_password(installation: Installation, wrong: dict[str, str]) -> None:
    api = f"{installation.prefect}/api"
    for path in ("/deployments/name/rerun/rerun", "/csrf-token?client=tests", "/admin/settings", "/health/x"):
        assert status(f"{api}{path}", wrong) == 401, path
    # What changes something is refused before: it also lacks the token against forged requests.
    for path in ("/flow_runs/filter", "/deployments/filter"):
        assert status(f"{api}{path}", wrong, b"{}") in (401, 403), path
    assert status(f"{api}/health", wrong | ELSEWHERE) == 200, "that it lives is no secret"


def test_prefect_does_nothing_for_pages_of_other_sites(installation: Installation) -> None:
    own = basic(installation.password)
    assert status(f"{installation.prefect}/api/deployments/name/rerun/rerun", own | ELSEWHERE) == 200
    # Even one that has the password lacks the token against forged requests.
    assert status(f"{installation.prefect}/api/flow_runs/filter", own | ELSEWHERE, b"{}") == 403


def test_ray_answers_those_alone_who_know_the_token(installation: Installation) -> None:
    url = f"http://127.0.0.1:{installation.ports['RAY_DASHBOARD_PORT']}/api/jobs/"
    own = {"Authorization": f"Bearer {(installation.home / 'ray' / 'token').read_text().strip()}"}
    work = b'{"entrypoint": "touch /tmp/never"}'
    for body in (None, work):
        for wrong in ({}, {"Authorization": "Bearer wrong"}, basic(installation.password)):
            assert status(url, wrong, body) in (401, 403), wrong
    assert status(url, own) == 200
    assert status(url, own | ELSEWHERE | BROWSER, work) >= 400, "a page of another site submits nothing"


def test_reports_are_for_those_alone_who_know_the_token(installation: Installation) -> None:
    own = {"Authorization": f"Bearer {installation.report_token}"}
    for path in ("/", "/grid", "/lineage", "/checkpoints", "/?token=wrong"):
        for wrong in ({}, {"Authorization": "Bearer wrong"}, basic(installation.password)):
            assert status(installation.reports + path, wrong) == 401, path
    assert status(f"{installation.reports}/", own | ELSEWHERE) == 200
    assert status(f"{installation.reports}/", own | ELSEWHERE, b"{}") == 501, "there is nothing but reading"


def test_no_secret_of_an_installation_is_in_what_its_road_leaves(smoke: Installation) -> None:
    kept = {"prefect": "prefect/password", "ray": "ray/token", "reports": "reports/token"}
    homes = {name: str(smoke.home / path) for name, path in kept.items()}
    canaries = {name: (smoke.home / path).read_text().strip() for name, path in kept.items()}
    assert {oct((smoke.home / path).stat().st_mode)[-3:] for path in kept.values()} == {"600"}
    # Prefect's password is a pair, and either whole or alone it opens the door.
    canaries["prefect"] = canaries["prefect"].partition(":")[2]
    left = [*files_below(smoke.home), *files_below(ray_folder(Settings(home=smoke.home, store_root="")))]
    left += [("Ray's jobs", repr(smoke.jobs()).encode())]
    left += [("a command line", line) for line in smoke.command_lines]
    assert leaks(left, canaries, homes) == []
    assert len(left) > 500 and any(b"stages.run" in line for line in smoke.command_lines), "nothing was looked at"
    for name, path in homes.items():
        assert any(leak.startswith(f"{name} in {path}") for leak in leaks(left, canaries, {})), "it is looked for"
