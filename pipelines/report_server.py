"""A read-only web server for reports: lists artifacts, shows what each holds, serves their pages."""

import argparse
import html
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from infra.settings import settings
from infra.storage import Store
from stages.manifest import Manifest, find
from stages.ref import Ref

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:24px auto;padding:0 16px;"
    "font-variant-numeric:tabular-nums}table{border-collapse:collapse;width:100%}td,th{text-align:left;"
    "padding:6px 10px;border-bottom:1px solid #d8dee4}td.n,th.n{text-align:right}a{color:#0e6b80}"
    "@media(prefers-color-scheme:dark){body{background:#0f1419;color:#e8edf2}a{color:#6cc6d8}"
    "td,th{border-color:#2c3742}}"
)


def finished(store: Store) -> list[Manifest]:
    """Return all finished artifacts, sorted by name and version."""
    found = []
    for key in sorted(store.keys()):
        folder, _, file = key.rpartition("/")
        if file == "manifest.json":
            name, _, version = folder.rpartition("/")
            if manifest := find(store, Ref(name=name, version=version)):
                found.append(manifest)
    return found


def _page(title: str, body: str) -> bytes:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><h1>{html.escape(title)}</h1>{body}</body></html>"
    ).encode()


def index(store: Store) -> bytes:
    """Return the list of artifacts."""
    rows = []
    for each in finished(store):
        where = html.escape(f"/{each.ref.folder}/")
        pages = " ".join(
            f'<a href="/{html.escape(each.key(file))}">{html.escape(role)}</a>'
            for role, file in each.reports.items()
            if file.name.endswith(".html")
        )
        ledger = each.ledger
        rows.append(
            f'<tr><td><a href="{where}">{html.escape(str(each.ref))}</a></td><td class="n">{ledger.listed:,}</td>'
            f'<td class="n">{ledger.kept:,}</td><td class="n">{ledger.rejected:,}</td>'
            f'<td class="n">{ledger.failed:,}</td><td>{pages}</td></tr>'
        )
    head = '<tr><th>artifact</th><th class="n">listed</th><th class="n">kept</th><th class="n">rejected</th>'
    head += '<th class="n">failed</th><th>pages</th></tr>'
    return _page("Artifacts", f"<table>{head}{''.join(rows)}</table>")


def live_pages(store: Store, manifest: Manifest) -> dict[str, str]:
    """Return the pages of one run of an artifact, title to key: they hold times, so no manifest names them."""
    folder = manifest.ref.key("reports-live")
    return {
        f"{key.removeprefix(folder + '/').removesuffix('.html')} (times of this run)": key
        for key in store.keys(folder)
        if key.endswith(".html")
    }


def artifact(store: Store, manifest: Manifest) -> bytes:
    """Return what one artifact holds."""
    named = {role: manifest.key(file) for role, file in manifest.reports.items()}
    pages = "".join(
        f'<li><a href="/{html.escape(key)}">{html.escape(role)}</a></li>'
        for role, key in {**named, **live_pages(store, manifest)}.items()
    )
    inputs = "".join(
        f"<li>{html.escape(name)} {html.escape(str(digest)[:16])}</li>"
        for name, digest in manifest.identity.get("inputs", {}).items()
    )
    totals = "".join(
        f"<tr><td>{html.escape(str(name))}</td><td>{html.escape(str(value)[:400])}</td></tr>"
        for name, value in manifest.totals.items()
        if name not in ("funnel", "cube", "markdown")
    )
    ledger = manifest.ledger
    body = (
        f"<p>listed {ledger.listed:,} = kept {ledger.kept:,} + rejected {ledger.rejected:,} "
        f"+ failed {ledger.failed:,}"
        f"; {len(manifest.parts)} parts; digest {manifest.digest[:16]}</p><h2>Pages</h2><ul>{pages}</ul>"
        f"<h2>Totals</h2><table>{totals}</table><h2>Made from</h2><ul>{inputs}</ul>"
    )
    return _page(str(manifest.ref), body)


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

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""

    def _send(self, status: int, body: bytes, kind: str = "text/html; charset=utf-8", scripts: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header(
            "Content-Security-Policy",
            f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; {scripts}base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'",
        )
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Serve the list, an artifact, or one page of it."""
        path = unquote(urlsplit(self.path).path)
        if path == "/healthz":
            return self._send(200, b"ok", "text/plain")
        if path == "/":
            return self._send(200, index(self.store))
        # Only pages that a finished artifact has are served, so no path can reach anything else.
        key = path.lstrip("/")
        for manifest in self._candidates(key):
            if key.rstrip("/") == manifest.ref.folder:
                return self._send(200, artifact(self.store, manifest))
            named = [manifest.key(file) for file in manifest.reports.values()]
            if key in named or key in live_pages(self.store, manifest).values():
                kind = "text/html; charset=utf-8" if key.endswith(".html") else "text/plain; charset=utf-8"
                body = self.store.read(key)
                return self._send(200, body, kind, _scripts(body))
        return self._send(404, _page("Not found", "<p>No such report. <a href='/'>All artifacts</a></p>"))

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


def make_server(host: str, port: int, store: Store) -> ThreadingHTTPServer:
    """Return a server that is ready to run."""
    server = ThreadingHTTPServer((host, port), type("BoundHandler", (Handler,), {"store": store}))
    server.daemon_threads = True
    return server


def main() -> int:
    """Serve the reports of this installation's store until stopped."""
    here = settings()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default=here.host)
    parser.add_argument("--port", type=int, default=here.report_port)
    given = parser.parse_args()
    make_server(given.host, given.port, Store(here.store_root)).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
