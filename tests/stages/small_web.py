"""A web of a few addresses for tests: what each serves can change, and what was asked for is known."""

import io
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image, ImageDraw


def drawn(number: int, size: tuple[int, int] = (96, 72)) -> Image.Image:
    """Return a picture that differs from every other number's."""
    image = Image.new("RGB", size, ((37 * number) % 256, (91 * number) % 256, 200))
    draw = ImageDraw.Draw(image)
    left, top = (13 * number) % 40, (7 * number) % 30
    draw.rectangle([left, top, left + size[0] // 3, top + size[1] // 3], fill=(255, 240, (53 * number) % 256))
    draw.ellipse([size[0] // 2, size[1] // 2, size[0] - 4, size[1] - 4], fill=((101 * number) % 256, 20, 20))
    return image


def jpeg(number: int, size: tuple[int, int] = (96, 72), **options: Any) -> bytes:
    """Return a drawn picture as a file."""
    out = io.BytesIO()
    drawn(number, size).save(out, "JPEG", quality=90, **options)
    return out.getvalue()


class SmallWeb:
    """Path to (status, body), or to where it moved; a path that is not there is a 404."""

    def __init__(self, host: str) -> None:
        """Serve nothing yet."""
        self.host = host
        self.pages: dict[str, tuple[int, bytes]] = {}
        self.moved: dict[str, str] = {}
        self.asked: Counter[str] = Counter()

    def url(self, path: str) -> str:
        """Return the whole address of a path."""
        return f"http://{self.host}{path}"


@contextmanager
def small_web() -> Iterator[SmallWeb]:
    """Serve on a loopback port of its own while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            web.asked[self.path] += 1
            if self.path in web.moved:
                self.send_response(302)
                self.send_header("Location", web.moved[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            status, body = web.pages.get(self.path, (404, b"nothing here"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web = SmallWeb(f"127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
