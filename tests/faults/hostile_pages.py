"""What the hostile web says and how: statuses, redirects, lying framing, slowness, headers. A path per line."""

import asyncio
import email.utils
import gzip
import socket
import struct
import time
from functools import cache

from hostile_answers import MEGABYTE, Page, Visit, drip, endless, headed, jpeg, lie, raw, status, then
from hostile_pictures import PICTURES


async def show(visit: Visit) -> bool:
    """Send a picture."""
    return await visit.picture(jpeg())


async def slow(visit: Visit) -> bool:
    """Send a picture after 1.5 seconds, as an honest but busy server does."""
    await asyncio.sleep(1.5)
    return await visit.picture(jpeg())


async def briefly(visit: Visit) -> bool:
    """Send a picture after 20 ms."""
    await asyncio.sleep(0.02)
    return await visit.picture(jpeg())


async def hops(visit: Visit) -> bool:
    """Redirect as often as the path says: /hops/3 -> /hops/2 -> ... -> a picture."""
    left = int(visit.path.rpartition("/")[2])
    return await (visit.send(302, b"", f"Location: /hops/{left - 1}") if left else show(visit))


async def stale(visit: Visit) -> bool:
    """Promise to keep the connection, and hang up."""
    await visit.picture(jpeg())
    return False


async def once(visit: Visit) -> bool:
    """Promise to keep the connection, and hang up at the second question on it."""
    return await visit.picture(jpeg()) if visit.nth == 1 else False


async def smuggled(visit: Visit) -> bool:
    """Send a picture and, as if it belonged to it, the answer to the next question."""
    surplus = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"
    await visit.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(jpeg()))
    await asyncio.sleep(0.05)
    await visit.write(jpeg() + surplus)
    return True


async def reset(visit: Visit) -> bool:
    """Break the connection in the middle of a body."""
    await visit.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x" * 1000)
    sock = visit.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    visit.writer.transport.abort()
    return False


async def at_a_date(visit: Visit) -> bool:
    """Ask to be left alone until a date, one second from now."""
    return await visit.send(503, b"", f"Retry-After: {email.utils.formatdate(time.time() + 1.5, usegmt=True)}")


async def link_page(visit: Visit) -> bool:
    """Lead away: what follows `/link/` is the target, CANARY stands for the canary's port."""
    target = visit.path.removeprefix("/link/").replace("CANARY", str(visit.web.ports["canary"]))
    return await visit.send(302, b"", f"Location: {target}")


@cache
def gzip_bomb() -> bytes:
    """100 MB of zeros in 100 kB."""
    return gzip.compress(bytes(100 * MEGABYTE), 1)


OK = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

PAGES: dict[str, Page] = {
    "/": show,
    "/many/": briefly,
    "/slow/honest/": slow,
    "/stale/": stale,
    "/once/": once,
    "/smuggled/": smuggled,
    # D3: redirects
    "/hops/": hops,
    "/redirect/loop": status(302, "Location: /redirect/loop"),
    "/redirect/there": status(302, "Location: /redirect/back"),
    "/redirect/back": status(302, "Location: /redirect/there"),
    "/redirect/missing": status(302),
    "/redirect/empty": status(302, "Location: "),
    "/redirect/bad": status(302, "Location: http://[::1"),
    "/redirect/userinfo": status(302, "Location: http://user:word@host/"),
    "/redirect/relative": status(307, "Location: ../picture/jpeg"),
    "/redirect/utf8": status(301, "Location: /many/é x".encode().decode("latin-1")),
    # D6: slow loris
    "/slow/first_byte": drip(b"", b""),
    "/slow/headers": drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "/slow/one_header": drip(b"HTTP/1.1 200 OK\r\nX: ", b"y"),
    "/slow/body": drip(OK + b"Content-Length: 100000\r\n\r\n", b"x"),
    "/slow/chunks": drip(CHUNKED, b"1\r\nx\r\n"),
    "/slow/middle": drip(OK + b"Content-Length: 100000\r\n\r\n" + b"x" * 50_000, b""),
    # D7: endless
    "/endless/body": endless(OK + b"\r\n", b"x" * 65_536),
    "/endless/chunks": endless(CHUNKED, b"10000\r\n" + b"x" * 65_536 + b"\r\n"),
    "/endless/one_chunk": endless(CHUNKED + b"7fffffff\r\n", b"x" * 65_536),
    "/endless/promised": lie("Content-Length: 1000000000000000"),
    "/endless/headers": endless(b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 1000 + b"\r\n", 2),
    "/endless/one_header": endless(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 65_536, 2),
    "/endless/trailers": endless(CHUNKED + b"1\r\nx\r\n0\r\n", b"X: y\r\n", 1),
    "/endless/chunk_line": endless(CHUNKED + b"1;", b"x" * 1024, 1),
    # D8: framing
    "/lying/two_lengths": lie("Content-Length: 10\r\nContent-Length: 20"),
    "/lying/same_lengths": lie("Content-Length: 10\r\nContent-Length: 10"),
    "/lying/list_of_lengths": lie("Content-Length: 10, 10"),
    "/lying/negative": lie("Content-Length: -1"),
    "/lying/plus": lie("Content-Length: +10"),
    "/lying/nan": lie("Content-Length: NaN"),
    "/lying/arabic_digits": lie("Content-Length: ١٠".encode().decode("latin-1")),
    "/lying/too_long": lie("Content-Length: 999999"),
    "/lying/both": lie("Content-Length: 5\r\nTransfer-Encoding: chunked", lambda: b"1\r\nx\r\n0\r\n\r\n"),
    "/lying/unknown_coding": lie("Transfer-Encoding: gzip, chunked"),
    "/lying/space_before_colon": lie("Content-Length : 10"),
    "/lying/folded": lie("X: a\r\n b\r\nContent-Length: 10"),
    "/lying/no_colon": lie("nonsense\r\nContent-Length: 10"),
    "/lying/bare_cr": lie("X: a\rContent-Length: 3"),
    "/lying/http09": raw("", b"<html>just a page</html>\n\n"),
    "/lying/bad_status": raw("HTTP/1.1 OK 200\n\n"),
    "/lying/http2": raw("HTTP/2 200\nContent-Length: 0\n\n"),
    "/lying/interim": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n", every=0.01),
    "/lying/switch": raw("HTTP/1.1 101 Switching Protocols\n\n"),
    "/lying/unknown_encoding": lie("Content-Encoding: br"),
    "/lying/broken_gzip": lie("Content-Encoding: gzip"),
    "/chunked/whole": raw("", CHUNKED + b"5;note=x\r\nhello\r\n0\r\nTrailer: x\r\n\r\n"),
    "/chunked/cut": raw("", CHUNKED + b"ff\r\nhello"),
    "/chunked/no_end": raw("", CHUNKED + b"5\r\nhello\r\n"),
    "/chunked/bad_size": raw("", CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n"),
    "/chunked/negative": raw("", CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n"),
    "/chunked/wrong_size": raw("", CHUNKED + b"3\r\nhello\r\n0\r\n\r\n"),
    "/close/silent": raw(""),
    "/close/in_head": raw("HTTP/1.1 200 OK\nContent-"),
    "/close/reset": reset,
    "/close/no_length": lie("Connection: close"),
    # D9, D10: statuses
    **{f"/status/{code}": status(code) for code in (204, 206, 300, 304, 400, 401, 402, 403, 404, 407, 410, 418)},
    **{f"/status/{code}": status(code) for code in (429, 451, 500, 502, 503, 504, 999)},
    "/status/206_whole": lambda visit: visit.send(206, jpeg(), "Content-Range: bytes 0-9/10"),
    "/ratelimit/once": then(status(429, "Retry-After: 1"), show),
    "/ratelimit/day": status(429, "Retry-After: 86400"),
    "/ratelimit/silent": then(status(429), show),
    "/ratelimit/date": then(at_a_date, show),
    "/ratelimit/nonsense": then(status(503, "Retry-After: soon"), show),
    "/flaky/500": then(status(500), show),
    "/flaky/hangs_up": then(raw(""), show),
    # D12: compression
    "/bomb/gzip": lie("Content-Encoding: gzip", gzip_bomb),
    "/gzip": lambda visit: visit.picture(gzip.compress(jpeg()), "Content-Encoding: gzip"),
    # D16: pages that are no pictures; the egress hands them on, whoever decodes refuses them
    "/type/html": lambda visit: visit.send(200, b"<html><body>not found</body></html>", kind="text/html"),
    "/type/html_as_jpeg": lambda visit: visit.send(200, b"<html><body>not found</body></html>"),
    "/type/json": lambda visit: visit.send(200, b'{"error": "gone"}', kind="application/json"),
    "/type/nothing": lambda visit: visit.send(200, b""),
    # D18: opt-out
    "/robots/noai": headed("X-Robots-Tag: noai"),
    "/robots/NOAI": headed("x-robots-tag: NOAI"),
    "/robots/noimageai": headed("X-Robots-Tag: noimageai"),
    "/robots/noindex": headed("X-Robots-Tag: noindex"),
    "/robots/none": headed("X-Robots-Tag: none"),
    "/robots/list": headed("X-Robots-Tag: nofollow, noai"),
    "/robots/two_headers": headed("X-Robots-Tag: nofollow", "X-Robots-Tag: noai"),
    "/robots/valued": headed("X-Robots-Tag: max-image-preview:large, noai"),
    "/robots/dated": headed("X-Robots-Tag: unavailable_after: Wed, 25 Jun 2031 15:00:00 GMT, noai"),
    "/robots/ours": headed("X-Robots-Tag: internvl-pipeline: noai"),
    "/robots/everybody": headed("X-Robots-Tag: *: noai"),
    "/robots/otherbot": headed("X-Robots-Tag: otherbot: noai, noindex"),
    "/robots/other_words": headed("X-Robots-Tag: nofollow, max-snippet:-1"),
    "/tdm/1": headed("TDM-Reservation: 1"),
    "/tdm/0": headed("TDM-Reservation: 0"),
    # D19: other content at the second visit
    "/swap": then(show, lambda visit: visit.picture(PICTURES["/picture/png"]())),
}
"""A path that ends in `/` stands for all paths one step below it."""
