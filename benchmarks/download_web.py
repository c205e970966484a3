"""The loopback web of the download benchmark: drawn pictures, latency, errors and drips, over http or https.

It runs in a process of its own, so that what it costs is counted for nobody. It listens on all of 127.0.0.0/8:
every one of these addresses is a host, as a list of real addresses has many.
"""

import argparse
import io
import ipaddress
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

HOSTS = 64
_SIDES = ((640, 480), (800, 600), (1024, 768), (1280, 960), (1600, 1200), (2048, 1536))
MIXES = {
    "even": [("JPEG", *size) for size in _SIDES for _ in range(3)] + [("JPEG", 1024, 768), ("PNG", 640, 480)],
    "small": [("JPEG", 640, 480)] * 12 + [("JPEG", 800, 600)] * 5 + [("JPEG", 1024, 768)] * 2 + [("PNG", 640, 480)],
}
"""Sizes of the pictures: as many of each, or mostly small ones, as in published lists; 5 % PNG."""

DRIP_SECONDS, RETRY_AFTER_SECONDS = 4.0, 1.0


def picture(kind: str, width: int, height: int, seed: int) -> bytes:
    """Return a drawn picture: soft ground, shapes with edges, and grain for 0.17 bytes a pixel, as photos have."""
    random = np.random.default_rng(seed)
    ground = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((width, height))
    shapes = Image.fromarray(random.integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8))
    edges = shapes.resize((width, height), Image.Resampling.NEAREST).filter(ImageFilter.GaussianBlur(1))
    grain = random.normal(0, 4, (height, width, 1))
    pixels = np.asarray(Image.blend(ground, edges, 0.4), np.float32) + grain
    out = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, kind, quality=85)
    return out.getvalue()


def urls(base: str, run: str, count: int) -> tuple[list[str], int]:
    """Return the addresses of one run, and how many of them a patient client gets a picture from.

    3 % are not there, 2 % are answered with 429 until a second has passed, 1 % drips and never ends.
    """
    scheme, _, port = base.partition("//127.0.0.1:")
    found, reachable = [], 0
    for number in range(count):
        share = number % 100
        kind = (
            "absent" if share in (7, 40, 73) else "busy" if share in (20, 60) else "drip" if share == 90 else "plain"
        )
        reachable += kind in ("plain", "busy")
        found.append(f"{scheme}//127.0.1.{1 + number % HOSTS}:{port}/{kind}/{run}/{number}.jpg")
    return found, reachable


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bodies: list[bytes]
    latency_seconds: float
    first_asked: dict[str, float]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/robots.txt":
            return self._send(404, b"")
        time.sleep(self.latency_seconds)
        _, kind, _, name = self.path.split("/")
        # A stride, so that no kind of answer always falls on the same picture.
        body = self.bodies[7 * int(name.removesuffix(".jpg")) // 3 % len(self.bodies)]
        now = time.monotonic()
        try:
            if kind == "absent":
                self._send(404, b"not here")
            elif kind == "busy" and now - self.first_asked.setdefault(self.path, now) < RETRY_AFTER_SECONDS:
                self._send(429, b"later", Retry_After=f"{RETRY_AFTER_SECONDS:.0f}")
            elif kind == "drip":
                self._drip(body, now + DRIP_SECONDS)
            else:
                self._send(200, body)
        except OSError:
            self.close_connection = True

    def _drip(self, body: bytes, until: float) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.close_connection = True
        for byte in body:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if time.monotonic() > until:
                return
            time.sleep(0.5)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512
    tls: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        # The handshake belongs to the connection's own thread; in the accepting one it would hold up the others.
        stream = self.tls.wrap_socket(request, server_side=True) if self.tls else request
        super().finish_request(stream, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


def main(arguments: list[str] | None = None) -> None:
    """Serve until stopped; print the address."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--mix", choices=sorted(MIXES), default="even")
    given = parser.parse_args(arguments)
    state = {
        "bodies": [picture(*each, seed=number) for number, each in enumerate(MIXES[given.mix])],
        "latency_seconds": given.latency_ms / 1000,
        "first_asked": {},
    }
    server = _Server(("0.0.0.0", 0), type("Bound", (_Handler,), state))
    if given.certificate:
        server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.tls.load_cert_chain(given.certificate)
    scheme = "https" if given.certificate else "http"
    print(f"{scheme}://127.0.0.1:{server.server_address[1]}", flush=True)
    # It ends with whoever started it, whatever becomes of them.
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


@contextmanager
def serving(latency_ms: float, certificate: Path | None, mix: str = "even") -> Iterator[str]:
    """Run the web in a process of its own; yield its address."""
    command = [sys.executable, "-m", "benchmarks.download_web", "--latency-ms", str(latency_ms), "--mix", mix]
    command += ["--certificate", str(certificate)] if certificate else []
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdin and process.stdout
        yield process.stdout.readline().strip()
        process.stdin.close()
    finally:
        process.terminate()
        process.wait()


def make_certificates(folder: Path) -> tuple[Path, Path]:
    """Make a local authority and a certificate for the loopback hosts.

    Returns:
        A file of all authorities to trust (the system's, so that loading them costs what it always
        costs, and the local one), and the server's certificate with its key.
    """
    import certifi
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    hosts = [x509.IPAddress(ipaddress.ip_address(f"127.0.1.{1 + host}")) for host in range(HOSTS)]
    made = []
    for subject, key, extension in (
        ("benchmark authority", keys[0], x509.BasicConstraints(ca=True, path_length=0)),
        ("benchmark web", keys[1], x509.SubjectAlternativeName(hosts)),
    ):
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            issuer_name=name("benchmark authority"),
            subject_name=name(subject),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(hours=1),
            not_valid_after=now + timedelta(days=2),
        ).add_extension(extension, critical=False)
        made.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    trusted, server = folder / "trusted.pem", folder / "server.pem"
    trusted.write_bytes(Path(certifi.where()).read_bytes() + b"\n" + made[0])
    private = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    server.write_bytes(made[1] + private)
    return trusted, server


if __name__ == "__main__":
    main()
