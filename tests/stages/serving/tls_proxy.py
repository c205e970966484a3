"""A proxy as people put in front of a server: TLS on its side, plain HTTP behind, and a path of its own."""

import http.client
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from certificates import Authority
from gateways import Running, running

from stages.serving.public_url import PublicUrl
from stages.serving.served_model import ServedModel

OWN = {"connection", "content-length", "date", "server", "transfer-encoding"}


class Proxy(ThreadingHTTPServer):
    """Passes what begins with a prefix on to a port of this machine."""

    daemon_threads = True

    def __init__(self, target: int, prefix: str, *, strips: bool, passes_host: bool) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.target, self.prefix, self.strips, self.passes_host = target, prefix, strips, passes_host
        self.elsewhere: list[str] = []
        """Paths outside the prefix that were asked for."""

    @property
    def public(self) -> str:
        return f"https://localhost:{self.server_port}{self.prefix}"


class Handler(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        proxy = self.server
        if not self.path.startswith(proxy.prefix):
            proxy.elsewhere.append(self.path)
            return self.send_error(404)
        path = "/" + self.path[len(proxy.prefix) :].lstrip("/") if proxy.strips else self.path
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        if proxy.passes_host:
            headers["Host"] = self.headers["host"]
        behind = http.client.HTTPConnection("127.0.0.1", proxy.target, timeout=60)
        behind.request(self.command, path, body, headers)
        found = behind.getresponse()
        self.send_response(found.status)
        for name, value in found.getheaders():
            if name.lower() not in OWN:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        while piece := found.read1(65536):  # as it comes: an answer grows
            self.wfile.write(piece)
        behind.close()

    do_POST = do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@contextmanager
def proxied(proxy: Proxy, folder: Path) -> Iterator[str]:
    """Let a proxy answer; yield the file with the authority that a client is to trust."""
    authority = Authority(folder)
    proxy.socket = authority.context("good").wrap_socket(proxy.socket, server_side=True)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield authority.ca_file
    finally:
        proxy.shutdown()
        thread.join(10)
        proxy.server_close()


@dataclass
class Behind:
    """A gateway, and the proxy in front of it."""

    running: Running
    proxy: Proxy
    ca_file: str

    def visitor(self) -> httpx.Client:
        context = ssl.create_default_context(cafile=self.ca_file)
        return httpx.Client(base_url=f"{self.proxy.public}/", verify=context, timeout=30, trust_env=False)


@contextmanager
def behind_a_proxy(model: ServedModel, prefix: str, *, strips: bool, passes_host: bool) -> Iterator[Behind]:
    """Serve with a page behind a proxy that takes its prefix away, or not, and passes the name on, or not."""
    with TemporaryDirectory(prefix="internvl-test-") as name:
        (certificates := Path(name) / "tls").mkdir()
        proxy = Proxy(0, prefix, strips=strips, passes_host=passes_host)
        public = PublicUrl.of(proxy.public)
        with running(model, Path(name), page=True, public=public) as found, proxied(proxy, certificates) as ca_file:
            proxy.target = found.port
            yield Behind(found, proxy, ca_file)
