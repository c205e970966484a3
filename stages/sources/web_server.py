"""The loopback web of the tiny recipe: draws each picture when asked, and misbehaves where the plan says so.

Run it with `python -m stages.sources.web_server --port 18080`. It can also serve pictures that
already exist (`--pictures FOLDER_OR_TAR`), to try the download stage on real photos.
"""

import argparse
import io
import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from stages.sources.own_pictures import captions_of, pictures_named
from stages.sources.scenes import Scene, draw
from stages.sources.web_site import SiteSpec, plan_site

PICTURE_SIZE = 96


def _jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=92)
    return out.getvalue()


def _huge_png() -> bytes:
    """Return a small file that claims 20,000 x 20,000 pixels."""
    out = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(out, "PNG")
    return out.getvalue()


def _gone_picture() -> bytes:
    """Return the picture that hosts serve in place of one they no longer have."""
    image = Image.new("RGB", (PICTURE_SIZE, PICTURE_SIZE), (240, 240, 240))
    for offset in range(20, 76):
        image.putpixel((offset, offset), (90, 90, 90))
        image.putpixel((offset, 95 - offset), (90, 90, 90))
    return _jpeg(image)


class Web:
    """What is served: pictures by path, and what has been asked for so far."""

    def __init__(self, spec: SiteSpec | None, pictures: Path | None) -> None:
        """Plan the site, or index the given pictures."""
        self.log: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.scenes: dict[tuple[str, int], Scene] = {}
        self.pictures: dict[str, bytes] = {}
        self.huge, self.gone = _huge_png(), _gone_picture()
        if spec:
            for row in plan_site(spec).select(["source", "source_row", "scene"]).to_pylist():
                self.scenes[row["source"], row["source_row"]] = Scene(**json.loads(row["scene"]))
        if pictures:
            self.pictures = pictures_named(pictures, {name for name, _ in captions_of(pictures)})

    def count(self, kind: str) -> int:
        """Count a request of a kind (or of one path) and return how many there were before it."""
        with self.lock:
            before = self.log[kind]
            self.log[kind] += 1
            return before

    def picture(self, kind: str, source: str, row: int) -> bytes:
        """Return what a planned address serves when it serves a picture."""
        if kind == "duplicates":
            return self.gone
        image = draw(self.scenes[source, row], PICTURE_SIZE)
        if kind == "min_side":
            image = image.resize((20, 20))
        elif kind == "aspect":
            image = image.resize((PICTURE_SIZE, 12))
        return _jpeg(image)


def write_list(pictures: Path, base_url: str, target: Path) -> int:
    """Write a parquet url list (url, caption) for pictures served with `--pictures`; return its rows."""
    rows = [(f"{base_url}/pictures/{name}", caption) for name, caption in captions_of(pictures)]
    pq.write_table(pa.table({"url": [r[0] for r in rows], "caption": [r[1] for r in rows]}), target)
    return len(rows)


class Handler(BaseHTTPRequestHandler):
    """One connection; keeps alive, logs nothing to the terminal."""

    protocol_version = "HTTP/1.1"
    web: Web
    slow_seconds = 15.0

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet: requests are counted, not printed."""

    def _send(self, status: int, body: bytes, kind: str = "image/jpeg", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """Answer as the plan says."""
        path = unquote(urlsplit(self.path).path)
        pieces = path.strip("/").split("/")
        try:
            if path == "/healthz":
                self._send(200, b"ok", "text/plain")
            elif path == "/_log":
                self._send(200, json.dumps(self.web.log).encode(), "application/json")
            elif pieces[0] == "pictures":
                self.web.count("pictures")
                data = self.web.pictures.get("/".join(pieces[1:]))
                self._send(200, data) if data is not None else self._send(404, b"no such picture", "text/plain")
            else:
                self._planned(pieces)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _planned(self, pieces: list[str]) -> None:
        if len(pieces) != 3 or not pieces[2].removesuffix(".jpg").isdigit():
            return self._send(404, b"no such page", "text/plain")
        kind, source, row = pieces[0], pieces[1], int(pieces[2].removesuffix(".jpg"))
        self.web.count(kind)
        if (source, row) not in self.web.scenes:
            return self._send(404, b"no such picture", "text/plain")
        status = {"not_found": 404, "gone": 410, "forbidden": 403, "server_error": 503}.get(kind)
        if status:
            return self._send(status, b"<html>sorry</html>", "text/html")
        if kind == "rate_limited" or (kind == "rate_limited_once" and not self.web.count(self.path)):
            # The whole web is one host here, and a host that asks for a second is left alone by everybody for it.
            return self._send(429, b"slow down", "text/plain", Retry_After="0" if row % 20 else "1")
        if kind == "redirect":
            return self._send(302, b"", "text/plain", Location=f"/plain/{source}/{pieces[2]}")
        if kind == "not_image":
            return self._send(200, b"<!doctype html><html><body>Log in to see this picture</body></html>")
        if kind == "huge":
            return self._send(200, self.web.huge, "image/png")
        body = self.web.picture(kind, source, row)
        if kind == "truncated":
            return self._send(200, body[: len(body) // 2])
        if kind == "opt_out":
            return self._send(200, body, X_Robots_Tag="noai")
        if kind == "slow":
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:10])
            self.wfile.flush()
            time.sleep(self.slow_seconds)
            self.close_connection = True
            return None
        return self._send(200, body)


def make_server(host: str, port: int, spec: SiteSpec | None, pictures: Path | None = None) -> ThreadingHTTPServer:
    """Return a server that is ready to run.

    Raises:
        OSError: The port is busy.
    """
    handler = type("BoundHandler", (Handler,), {"web": Web(spec, pictures)})
    server = ThreadingHTTPServer((host, port), handler)
    server.daemon_threads = True
    return server


def main(arguments: list[str] | None = None) -> int:
    """Serve until stopped; return 2 with one sentence when the port is busy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=18080)
    parser.add_argument("--spec", help="JSON of a SiteSpec; its defaults when left out")
    parser.add_argument("--pictures", type=Path, help="serve these pictures under /pictures/ instead")
    parser.add_argument("--write-list", type=Path, help="also write a parquet url list for --pictures")
    given = parser.parse_args(arguments)
    base = f"http://{given.host}:{given.port}"
    spec = SiteSpec.model_validate_json(given.spec) if given.spec else SiteSpec(base_url=base)
    if given.write_list and given.pictures:
        print(f"{given.write_list}: {write_list(given.pictures, base, given.write_list)} rows", flush=True)
    try:
        server = make_server(given.host, given.port, None if given.pictures else spec, given.pictures)
    except OSError as error:
        print(
            f"{base} cannot be served: {error.strerror}; choose another port with INTERNVL_WEB_PORT",
            file=sys.stderr,
        )
        return 2
    print(f"serving on {base}", flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
