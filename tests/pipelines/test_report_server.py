import html.parser
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from infra.storage import Store
from pipelines.report_server import make_server
from stages.manifest import Ledger
from stages.ref import Ref
from stages.workspace import Output

EVIL = '<script>alert(1)</script><img src=x onerror="alert(2)">'


@pytest.fixture
def address(store: Store) -> Iterator[str]:
    output = Output(
        store=store,
        ref=Ref(name="verdicts/clean/coyo", version="v1"),
        stage="filter",
        identity={"inputs": {EVIL: EVIL}},
    )
    part = output.part("000", "abc", Ledger(listed=3, kept=2, rejected=1), {"rows": ("rows.bin", b"secret rows")})
    output.commit(
        [part], totals={EVIL: EVIL, "kept_share": 0.5}, reports={"report": ("report.html", b"<p>the report</p>")}
    )
    store.write("elsewhere/secret.txt", b"not in any manifest")
    server = make_server("127.0.0.1", 0, store)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def get(url: str) -> tuple[int, dict[str, str], str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=20) as response:
            return response.status, dict(response.headers), response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read().decode()


class Found(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_the_list_leads_to_the_artifact_and_its_report(address: str) -> None:
    status, _, page = get(f"{address}/")
    assert status == 200
    assert "verdicts/clean/coyo@v1" in page
    (report,) = (value for name, value in parsed(page).attributes if name == "href" and "reports/" in str(value))
    assert get(f"{address}{report}")[2] == "<p>the report</p>"
    status, _, page = get(f"{address}/verdicts/clean/coyo/v1/")
    assert status == 200 and "listed 3 = kept 2 + rejected 1 + failed 0" in page


def parsed(page: str) -> Found:
    found = Found()
    found.feed(page)
    return found


@pytest.mark.parametrize("path", ["/", "/verdicts/clean/coyo/v1/"])
def test_nothing_hostile_is_shown_alive(address: str, path: str) -> None:
    _, headers, page = get(address + path)
    found = parsed(page)
    assert not {"script", "img", "iframe"} & set(found.tags)
    assert not any(name.startswith("on") or str(value).startswith("javascript:") for name, value in found.attributes)
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/elsewhere/secret.txt",
        "/verdicts/clean/coyo/v1/manifest.json",
        "/verdicts/clean/coyo/v1/../../../../elsewhere/secret.txt",
        "/verdicts/clean/coyo/v1/%2e%2e/%2e%2e/%2e%2e/%2e%2e/elsewhere/secret.txt",
        "//etc/passwd",
        "/%00",
        "/verdicts/clean/coyo/v2/",
    ],
)
def test_only_what_a_manifest_names_as_a_report_is_served(address: str, path: str) -> None:
    status, _, page = get(address + path)
    assert status == 404
    assert "secret" not in page.replace("secret.txt", "") and "root:" not in page


def test_rows_are_not_served(address: str, store: Store) -> None:
    (rows,) = (key for key in store.keys("verdicts") if key.endswith(".bin"))
    assert get(f"{address}/{rows}")[0] == 404


def test_pages_of_one_run_are_served_beside_those_of_the_manifest(store: Store, address: str) -> None:
    store.write("verdicts/clean/coyo/v1/reports-live/hosts.html", b"<p>slow hosts</p>")
    store.write("verdicts/clean/coyo/v1/measures/000.parquet", b"clock values")
    _, _, page = get(f"{address}/verdicts/clean/coyo/v1/")
    assert 'href="/verdicts/clean/coyo/v1/reports-live/hosts.html"' in page and "times of this run" in page
    status, headers, body = get(f"{address}/verdicts/clean/coyo/v1/reports-live/hosts.html")
    assert (status, body) == (200, "<p>slow hosts</p>") and "default-src 'none'" in headers["Content-Security-Policy"]
    for other in ("measures/000.parquet", "reports-live/none.html", "reports-live/../measures/000.parquet"):
        assert get(f"{address}/verdicts/clean/coyo/v1/{other}")[0] == 404


def test_pages_of_a_run_that_is_not_finished_are_not_served(store: Store, address: str) -> None:
    store.write("pool/coyo/v1/reports-live/hosts.html", b"<p>too early</p>")
    assert get(f"{address}/pool/coyo/v1/reports-live/hosts.html")[0] == 404


def test_a_page_may_run_the_one_script_that_its_own_policy_names(store: Store) -> None:
    from report_pages import judged

    evil = '<p><meta http-equiv="Content-Security-Policy" content="script-src \'unsafe-inline\'; "><title>x</title>'
    output = Output(store=store, ref=Ref(name="verdicts/clean/coyo", version="v2"), stage="filter", identity={})
    pages = {"page": ("page.html", judged(30).page().encode()), "evil": ("evil.html", evil.encode())}
    manifest = output.commit([], totals={}, reports=pages)
    server = make_server("127.0.0.1", 0, store)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        policies = {}
        for role, file in manifest.reports.items():
            _, headers, page = get(f"http://127.0.0.1:{server.server_address[1]}/{manifest.key(file)}")
            policies[role] = headers["Content-Security-Policy"]
            if role == "page":
                assert policies[role].split("script-src ")[1].split(";")[0] in page
        assert "frame-ancestors 'none'" in policies["page"] and "script-src" not in policies["evil"]
    finally:
        server.shutdown()


@pytest.mark.parametrize("lost", ["report", "manifest"])
def test_a_damaged_artifact_is_told_and_its_page_answers(store: Store, address: str, lost: str) -> None:
    _, _, page = get(f"{address}/verdicts/clean/coyo/v1/")
    (report,) = (str(value) for name, value in parsed(page).attributes if name == "href" and "reports/" in str(value))
    if lost == "report":
        store.remove(report.lstrip("/"))
    else:
        store.write("verdicts/clean/coyo/v1/manifest.json", b"{}")
    status, _, page = get(f"{address}{report}")
    assert status == 503 and "The store cannot be read" in page
    assert get(f"{address}/verdicts/clean/coyo/v1/")[0] == (200 if lost == "report" else 503)
