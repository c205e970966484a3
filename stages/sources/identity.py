"""Names of rows that depend on content alone: never on position, shard size or run."""

import hashlib
import re
from urllib.parse import urlsplit

import idna

# An address that is canonical as it stands, which nearly all are: one match instead of a parse.
# Percent signs only before upper-case hexadecimal of bytes that may not stand for themselves.
_SAFE = r"[A-Za-z0-9\-._~!$&'()*+,;=:@/]"
_ESCAPED = r"%(?:[0189A-F][0-9A-F]|2[0-9ABCF]|3[A-F]|[46]0|5[BCDE]|7[BCDF])"
_PLAIN = re.compile(
    rf"https?://([a-z0-9][a-z0-9.\-]*)(?::(?!80/|443/)(?:[1-9][0-9]{{0,3}}|[1-5][0-9]{{4}}))?(?:/{_SAFE}*+(?:{_ESCAPED}{_SAFE}*+)*+)(?:\?[A-Za-z0-9\-._~!$&'()*+,;=:@/?]"
    rf"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|{_ESCAPED})*+)?"
)
_NOT_URL = re.compile(r"[\t\r\n]")
_PERCENT = re.compile(r"%([0-9A-Fa-f]{2})|%|[^A-Za-z0-9\-._~!$&'()*+,;=:@/?%]")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PORTS = {"http": 80, "https": 443}


def _escape(found: re.Match[str]) -> str:
    """Spell one character or escape the one way: needed escapes in upper case, needless ones undone."""
    text = found.group()
    if hexadecimal := found.group(1):
        value = int(hexadecimal, 16)
        return chr(value) if value in _UNRESERVED else f"%{value:02X}"
    # A lone percent sign is data; everything else is UTF-8, also a lone surrogate, which is refused elsewhere.
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))


def canonical_host(host: str) -> str:
    """Return a host in lower case, letters beyond ASCII as IDNA (UTS 46); what is no name stays as it is."""
    if not host.isascii():
        # The older encoding knows symbols that the newer one refuses and that are registered all the same.
        for encode in (lambda name: idna.encode(name, uts46=True), lambda name: name.encode("idna")):
            try:
                return encode(host).decode("ascii").lower()
            except UnicodeError:
                continue
    return host.lower()


def canonical_url(url: str) -> str:
    """Return one spelling per address.

    For http and https: scheme and host in lower case, the host as IDNA, no default port, no fragment, `/` for an
    empty path; percent escapes in upper case, only where needed, and never twice (RFC 3986, 6.2). A name and password
    stay, for the egress to refuse. Anything else keeps its spelling. Doing it twice changes nothing.
    """
    return canonical(url)[0]


def canonical(url: str) -> tuple[str, str]:
    """Return (canonical url, host); the host is empty where the address has none."""
    if found := _PLAIN.fullmatch(url):
        return url, found.group(1)
    text = url.strip()
    scheme, colon, rest = text.partition(":")
    lowered = scheme.lower()
    if lowered not in _PORTS or not rest.startswith("//"):
        return (lowered + colon + rest if scheme.isalnum() else text), ""
    # As browsers do: a line break in the middle of a link is an accident of its page.
    text = _NOT_URL.sub("", text)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return text, ""
    host = canonical_host(parts.hostname or "")
    netloc = f"[{host}]" if ":" in host else host
    if port and port != _PORTS[lowered]:
        netloc = f"{netloc}:{port}"
    if parts.username is not None:
        netloc = f"{parts.netloc.rpartition('@')[0]}@{netloc}"
    query = f"?{_PERCENT.sub(_escape, parts.query)}" if parts.query else ""
    # A question mark would end the path; urlsplit leaves none in it.
    return f"{lowered}://{netloc}{_PERCENT.sub(_escape, parts.path) or '/'}{query}", host


def _hash128(*fields: str) -> bytes:
    digest = hashlib.sha256()
    for field in fields:
        # Captions from the wild may hold lone surrogates.
        data = field.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.digest()[:16]


def uid_of(source: str, url: str, caption: str) -> bytes:
    """Return the 128-bit name of a sample: hash over source, canonical url and raw caption."""
    return _hash128(source, canonical_url(url), caption)


def url_id_of(url: str) -> bytes:
    """Return the 128-bit name of an address; samples that share a picture's address share it."""
    return _hash128(canonical_url(url))
