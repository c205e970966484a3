"""Connections to checked addresses: pooled, pinned, each step bounded by the time that is left."""

import functools
import resource
import select
import socket
import ssl
import threading
import time
from collections import OrderedDict

from infra.addresses import Target
from infra.egress_error import EgressError
from infra.http1 import Wire

MOST_SESSIONS = 4_096


@functools.cache
def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return the TLS settings of this process: names and certificates are always verified.

    Building one costs 25 ms of CPU, and there is no argument that weakens it.

    Args:
        ca_file: PEM file of the authorities to trust; the system's when None.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


def reserve_descriptors(wanted: int) -> None:
    """Make sure that this many files and connections can be open at once, raising the soft limit where allowed.

    Raises:
        OSError: The hard limit is too low.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        raise OSError(
            f"{wanted} open files are needed for that many fetches at once, this process may open {hard}; "
            "fetch fewer at once, or raise the limit (`ulimit -Hn`, LimitNOFILE of the service)"
        ) from None


def dial(address: str, port: int, seconds: float) -> socket.socket:
    """Return a socket connected to an address.

    Raises:
        OSError: Refused or unreachable; TimeoutError after `seconds`.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.settimeout(max(0.001, seconds))
        sock.connect((address, port))
        # TLS ends its handshake and asks at once: without this the question waits for an acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


class Connections:
    """Idle connections of one guard by (scheme, host, port); reused only while their address answers the name.

    TLS sessions are remembered as well: a server that closes after each answer is greeted with a resumed
    session, which spares a third of the client's CPU in the handshake.
    """

    def __init__(
        self,
        ca_file: str | None = None,
        read_seconds: float = 10.0,
        rate: float = 0.0,
        grace_seconds: float = 5.0,
        idle_seconds: float = 15.0,
        most_idle: int = 256,
    ) -> None:
        """Keep at most `most_idle` connections that wait for `idle_seconds`; the rest as `Wire` describes it."""
        self._ca_file, self._read_seconds, self._rate, self._grace = ca_file, read_seconds, rate, grace_seconds
        self._idle_seconds, self._most_idle = idle_seconds, most_idle
        self._lock = threading.Lock()
        # Oldest first, so that the end of the list is warm and the start is due.
        self._idle: OrderedDict[Wire, tuple[str, str, int]] = OrderedDict()
        self._by_key: dict[tuple[str, str, int], list[Wire]] = {}
        self._sessions: OrderedDict[tuple[str, int], ssl.SSLSession] = OrderedDict()

    def take(self, target: Target, addresses: tuple[str, ...], stop: float, fresh: bool = False) -> Wire:
        """Return a connection to one of the addresses, an idle one where there is one unless a `fresh` one is wanted.

        Raises:
            EgressError: `connect`, `tls` or `timeout`.
        """
        if not fresh:
            while wire := self._pop(target[:3]):
                if wire.address in addresses and wire.clean and _silent(wire.sock):
                    wire.reused = True
                    return wire
                wire.close()
        return self._connect(target, addresses, stop)

    def give_back(self, target: Target, wire: Wire) -> None:
        """Keep a connection whose answer was read to its end."""
        if not wire.clean:
            wire.close()
            return
        key, wire.idle_since = target[:3], time.monotonic()
        due = []
        with self._lock:
            self._idle[wire] = key
            self._by_key.setdefault(key, []).append(wire)
            while self._idle:
                oldest = next(iter(self._idle))
                if len(self._idle) <= self._most_idle and wire.idle_since - oldest.idle_since < self._idle_seconds:
                    break
                self._forget(oldest)
                due.append(oldest)
        for each in due:
            each.close()

    def leave(self, target: Target, wire: Wire) -> None:
        """Close a connection that cannot be used again, and remember its TLS session."""
        if isinstance(wire.sock, ssl.SSLSocket):
            self._remember(target, wire.sock)
        wire.close()

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle = list(self._idle)
            self._idle.clear()
            self._by_key.clear()
        for wire in idle:
            wire.close()

    def _pop(self, key: tuple[str, str, int]) -> Wire | None:
        with self._lock:
            waiting = self._by_key.get(key)
            if not waiting:
                return None
            wire = waiting[-1]
            self._forget(wire)
            return wire

    def _forget(self, wire: Wire) -> None:
        key = self._idle.pop(wire)
        waiting = self._by_key[key]
        waiting.remove(wire)
        if not waiting:
            del self._by_key[key]

    def _connect(self, target: Target, addresses: tuple[str, ...], stop: float) -> Wire:
        slow = False
        for left, address in enumerate(addresses, 1 - len(addresses)):
            # An address that swallows packets may not eat the time of the others.
            seconds = min(self._read_seconds, stop - time.monotonic()) / (1 if left == 0 else 3)
            if seconds <= 0:
                break
            try:
                sock = dial(address, target.port, seconds)
            except TimeoutError:
                slow = True
                continue
            except OSError:
                continue
            if target.scheme == "https":
                sock = self._wrapped(sock, target, stop)
            return Wire(sock, address, self._read_seconds, self._rate, self._grace)
        raise EgressError("timeout" if slow or time.monotonic() >= stop else "connect")

    def _wrapped(self, sock: socket.socket, target: Target, stop: float) -> ssl.SSLSocket:
        try:
            sock.settimeout(max(0.001, min(self._read_seconds, stop - time.monotonic())))
            session = self._sessions.get(target[1:3])
            return tls_context(self._ca_file).wrap_socket(sock, server_hostname=target.host, session=session)
        except TimeoutError:
            sock.close()
            raise EgressError("timeout") from None
        except (ssl.SSLError, ssl.CertificateError, ValueError):
            sock.close()
            raise EgressError("tls") from None
        except OSError:
            sock.close()
            raise EgressError("connect") from None

    def _remember(self, target: Target, sock: ssl.SSLSocket) -> None:
        if sock.session_reused or (session := sock.session) is None:
            return
        with self._lock:
            self._sessions[target[1:3]] = session
            if len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)


def _silent(sock: socket.socket) -> bool:
    """Say whether nothing came since the last answer: neither its end nor an answer to no question."""
    poll = select.poll()
    poll.register(sock, select.POLLIN | select.POLLHUP | select.POLLERR)
    return not poll.poll(0)
