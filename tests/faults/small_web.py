"""A web of a few pictures on loopback, with answers that never change, and a url list of it."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL import Image

ROWS = 24


def picture(number: int) -> bytes:
    out = io.BytesIO()
    image = Image.effect_noise((40, 30), 20 + number).convert("RGB")
    image.paste((number * 9, 255 - number * 9, 128), (5, 5, 30, 20))
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


class _Handler(BaseHTTPRequestHandler):
    pictures: dict[int, bytes]

    def do_GET(self) -> None:
        name = self.path.strip("/").partition(".")[0]
        number = int(name) if name.isdecimal() else 6  # there is no robots.txt
        status, kind, body = 200, "image/jpeg", self.pictures[number]
        if number % 7 == 6:
            status, kind, body = 404, "text/plain", b"no"
        elif number % 11 == 10:
            kind, body = "text/html", b"<p>no picture</p>"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """Say nothing: clients are killed on purpose."""


@contextmanager
def small_web() -> Iterator[str]:
    """Serve; yield host:port."""
    handler = type("Handler", (_Handler,), {"pictures": {number: picture(number) for number in range(ROWS)}})
    server = _Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def write_list(path: Path, host: str, rows: int = ROWS) -> Path:
    """Write a url list of the web; one row has no caption."""
    lines = [f"http://{host}/{number}.jpg,{'' if number == 5 else f'Picture {number}.'}" for number in range(rows)]
    path.write_text("url,text\n" + "\n".join(lines) + "\n")
    return path
