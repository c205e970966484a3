"""A read-only web server for reports: what runs, what stands, and the pages of what is finished."""

import argparse
import ipaddress
import re
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from infra.job_list import Listed, running_jobs
from infra.settings import Settings, settings
from infra.storage import StorageError, Store
from pipelines.live import pages
from pipelines.live.shelf import Shelf
from pipelines.live.states import doing
from pipelines.report_door import VARIABLE, Door, token_of
from stages.manifest import Manifest, ManifestError, find
from stages.ref import Ref

Jobs = Callable[[], list[Listed] | None]
HTML = "text/html; charset=utf-8"


class Answer(NamedTuple):
    """A page to send."""

    body: bytes
    kind: str = HTML
    scripts: str = ""
    """What its policy lets run."""
    status: int = 200


def live_pages(store: Store, manifest: Manifest) -> dict[str, str]:
    """Return the pages of one run of an artifact, title to key: they hold times, so no manifest names them."""
    folder = manifest.ref.key("reports-live")
    return {
        f"{key.removeprefix(folder + '/').removesuffix('.html')} (times of this run)": key
        for key in store.keys(folder)
        if key.endswith(".html")
    }


def look(shelf: Shelf, jobs: Jobs) -> pages.Look:
    """Return what stands and what runs now."""
    view, listed, now = shelf.look(), jobs(), time.time()
    running = None if listed is None else {job.artifact for job in listed}
    return pages.Look(view, {each.ref: doing(each, running, now) for each in view.begun}, listed is not None, now)


def events_of(home: Path | None, ref: Ref) -> Path | None:
    """Return the folder with a checkpoint's TensorBoard files, None where this machine has none."""
    folder = home / "tensorboard" / ref.folder if home else None
    return folder if folder and folder.is_dir() else None


_OWN_POLICY = re.compile(
    rb"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
    rb"style-src 'sha256-[A-Za-z0-9+/]{43}='; (script-src 'sha256-[A-Za-z0-9+/]{43}='; )base-uri 'none'; "
    rb"form-action 'none'\">"
)


def _scripts(page: bytes) -> str:
    """Return what a page's own policy lets run: the one script whose hash its head names, or nothing.

    Our templates write that policy before any text of a sample, so nothing from outside can stand there.
    """
    head = page[:1024].partition(b"<title>")[0]
    found = _OWN_POLICY.search(head)
    return found.group(1).decode() if found else ""


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD, nothing else."""

    store: Store
    shelf: Shelf
    jobs: Jobs
    door: Door
    home: Path | None

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""

    def _send(
        self,
        status: int,
        body: bytes,
        kind: str = HTML,
        scripts: str = "",
        more: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header(
            "Content-Security-Policy",
            f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; {scripts}base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'",
        )
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @property
    def _port(self) -> int:
        return int(self.connection.getsockname()[1])

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Serve a live page, an artifact, or one page of it, to those who may read."""
        asked = urlsplit(self.path)
        path, query = unquote(asked.path), dict(parse_qsl(asked.query))
        if path == "/healthz":
            return self._send(200, b"ok", "text/plain")
        if "token" in query and self.door.closed:
            return self._enter(path, query)
        if not self.door.admits(self.headers, self._port):
            return self._send(401, NO_ENTRY, more={"WWW-Authenticate": "Bearer"})
        try:
            body = self._live(path, query)
            answer = Answer(body) if body is not None else self._stored(path)
        except (StorageError, ManifestError, OSError) as error:
            return self._send(503, pages.message("The store cannot be read", str(error)))
        return self._send(answer.status, answer.body, answer.kind, answer.scripts)

    def _enter(self, path: str, query: dict[str, str]) -> None:
        """Let in who brings the token: a cookie, and the same page without it."""
        if not self.door.knows(query.pop("token")):
            return self._send(401, NO_ENTRY, more={"WWW-Authenticate": "Bearer"})
        # One leading slash alone: two would lead to another server.
        there = "/" + quote(path.lstrip("/\\")) + (f"?{urlencode(query)}" if query else "")
        self._send(303, b"", more={"Location": there, "Set-Cookie": self.door.cookie(self._port)})

    def _live(self, path: str, query: dict[str, str]) -> bytes | None:
        """Return the live page of this address, None where it is none."""
        if path not in ("/", "/lineage", "/grid", "/checkpoints"):
            return None
        now = look(self.shelf, type(self).jobs)
        if path == "/checkpoints":
            return pages.checkpoints(now, query, self.store)
        drawn = {"/": pages.overview, "/lineage": pages.lineage_page, "/grid": pages.grid}
        return drawn[path](now, query)

    def _stored(self, path: str) -> Answer:
        # Only pages that a finished artifact has are served, so no path can reach anything else.
        key = path.lstrip("/")
        for manifest in self._candidates(key):
            named = {role: manifest.key(file) for role, file in manifest.reports.items()}
            if key.rstrip("/") == manifest.ref.folder:
                all_pages = {**named, **live_pages(self.store, manifest)}
                return Answer(pages.artifact(manifest, all_pages, events_of(self.home, manifest.ref)))
            if key in named.values() or key in live_pages(self.store, manifest).values():
                kind = HTML if key.endswith(".html") else "text/plain; charset=utf-8"
                body = self.store.read(key)
                return Answer(body, kind, _scripts(body))
        return Answer(pages.message("Not found", "No such report; the overview lists all artifacts."), status=404)

    def _candidates(self, key: str) -> list[Manifest]:
        pieces = key.rstrip("/").removesuffix("/").split("/")
        found = []
        for cut in range(1, len(pieces)):
            try:
                ref = Ref(name="/".join(pieces[:cut]), version=pieces[cut])
                if manifest := find(self.store, ref):
                    found.append(manifest)
            except ValueError:
                continue
        return found


NO_ENTRY = pages.message(
    "This page asks who you are",
    "Reports show what is in the data, so they are for those alone who run this installation.",
    "Open the link to the reports that this command prints where the installation runs; your browser is then let in "
    "until it is closed, and this page works. On a cluster, add ?token= to this address, and what its secret "
    f"{VARIABLE} holds.",
    command="internvl status --links",
    doors=False,
)


def make_server(
    host: str, port: int, store: Store, token: str = "", jobs: Jobs = lambda: None, home: Path | None = None
) -> ThreadingHTTPServer:
    """Return a server that is ready to run.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.
        store: Whose reports are served.
        token: What a reader must show; empty for an open door.
        jobs: Tells which jobs run, None where nobody knows.
        home: State folder of the installation, under which TensorBoard's files lie.
    """
    given = {
        "store": store,
        "shelf": Shelf(store),
        "jobs": staticmethod(jobs),
        "door": Door(token),
        "home": home,
    }
    server = ThreadingHTTPServer((host, port), type("BoundHandler", (Handler,), given))
    server.daemon_threads = True
    return server


def checked_token(here: Settings, host: str, open_to_all: bool) -> str:
    """Return the token to ask for.

    Raises:
        StorageError: There is none, and others than this machine's users could read.
    """
    token = "" if open_to_all else token_of(here)
    if not token and not open_to_all and not _loopback(host):
        raise StorageError(
            f"the report server would show the data to everybody who reaches {host}; set {VARIABLE} (openssl rand "
            "-hex 32), or say --open where something in front of it asks who comes"
        )
    return token


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def main() -> int:
    """Serve the reports of this installation's store until stopped."""
    here = settings()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default=here.host)
    parser.add_argument("--port", type=int, default=here.report_port)
    parser.add_argument("--open", action="store_true", help="ask nobody for the token")
    given = parser.parse_args()
    try:
        token = checked_token(here, given.host, given.open)
    except StorageError as error:
        parser.error(str(error))
    store = Store(here.store_root)
    make_server(given.host, given.port, store, token, lambda: running_jobs(here), here.home).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
