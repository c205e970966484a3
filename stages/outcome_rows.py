"""The two tables of a downloaded part: what became of every row, and how the web answered this time."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from stages.fetching import Answer
from stages.manifest import ManifestError
from stages.outcome import Outcome

OUTCOMES = pa.schema(
    [
        ("uid", pa.binary(16)),
        ("url_id", pa.binary(16)),
        ("host", pa.string()),
        ("outcome", pa.string()),
        ("http_status", pa.int16()),
        ("attempt", pa.int16()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("body_bytes", pa.int64()),
        ("body_sha256", pa.string()),
        ("first_sha256", pa.string()),
        ("phash", pa.uint64()),
        ("frames", pa.int32()),
        ("decoded_share", pa.float32()),
    ]
)
"""No clock in here, so that any number of workers gives the same bytes.

`frames` is of the file that the web sent, `decoded_share` the share of its rows that were decoded. `attempt` is the
pass that last asked; `first_sha256` is of the body that was first fetched, whatever came since.
"""

MEASURES = pa.schema(
    [
        ("uid", pa.binary(16)),
        ("host", pa.string()),
        ("tries", pa.int16()),
        ("latency_ms", pa.int32()),
        ("body_bytes", pa.int64()),
    ]
)
"""Clock values, which differ from run to run: kept beside the part, outside of the manifest."""


def host_of(url: str) -> str | None:
    """Return the host of an address in lower case, None where it has none."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def differs(answer: Answer, expected: str | None) -> bool:
    """Say whether a body came and is not the one that the source lists, by `md5:HEX` or `sha256:HEX`.

    Raises:
        ManifestError: The listing holds something else.
    """
    if expected is None or answer.body_sha256 is None:
        return False
    kind, _, wanted = expected.partition(":")
    if kind not in ("md5", "sha256") or not wanted:
        raise ManifestError(
            f"the listing's expected_hash holds {expected[:80]!r}; it may hold md5:HEX, sha256:HEX or nothing: "
            "run list_urls again with --force"
        )
    return wanted.lower() != (answer.body_md5 if kind == "md5" else answer.body_sha256)


def outcome_row(
    row: Mapping[str, Any], answer: Answer, outcome: Outcome, attempt: int, first_sha256: str | None
) -> dict[str, Any]:
    """Return one row of `OUTCOMES`: what is stored is described only where it is stored.

    Args:
        row: As listed.
        answer: Of its address.
        outcome: Of the row.
        attempt: Which pass this is for the row, from 1.
        first_sha256: Hash of the first body in an earlier pass; None where it is fetched for the first time.
    """
    kept = outcome is Outcome.FETCHED and answer.image is not None
    image = answer.image or b""
    return {
        "uid": row["uid"],
        "url_id": row["url_id"],
        "host": row["host"],
        "outcome": str(outcome),
        "http_status": answer.http_status,
        "attempt": attempt,
        "width": answer.width if kept else None,
        "height": answer.height if kept else None,
        "original_width": answer.original_width,
        "original_height": answer.original_height,
        "bytes": len(image) if kept else None,
        "sha256": sha256(image).hexdigest() if kept else None,
        "body_bytes": answer.body_bytes,
        "body_sha256": answer.body_sha256,
        "first_sha256": first_sha256 or (answer.body_sha256 if kept else None),
        "phash": answer.phash,
        "frames": answer.frames,
        "decoded_share": answer.decoded_share,
    }


def measure_row(row: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
    """Return one row of `MEASURES`."""
    return {
        "uid": row["uid"],
        "host": row["host"],
        "tries": answer.tries,
        "latency_ms": answer.latency_ms,
        "body_bytes": answer.body_bytes,
    }
