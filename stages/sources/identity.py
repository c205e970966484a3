"""Names of rows that depend on content alone: never on position, shard size or run."""

import hashlib
from urllib.parse import urlsplit, urlunsplit


def canonical_url(url: str) -> str:
    """Return one spelling per address: scheme and host in lower case, no fragment, no default port."""
    text = url.strip()
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return text
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    if port and (parts.scheme.lower(), port) not in (("http", 80), ("https", 443)):
        host = f"{host}:{port}"
    if parts.username is not None:
        host = f"{parts.netloc.rpartition('@')[0]}@{host}"
    return urlunsplit((parts.scheme.lower(), host, parts.path, parts.query, ""))


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
