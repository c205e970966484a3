"""The connection to an S3 server: asked again for a bounded time, and its errors turned into sentences."""

import logging
import os
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

import fsspec

from infra.store_entries import StorageError, StoreUnavailable

T = TypeVar("T")
PATIENCE_SECONDS = 60.0
"""How long one call is asked again before the store counts as unavailable."""
DAMAGED_TRIES = 3
"""How often bytes are asked for that do not match the store's own checksum."""

log = logging.getLogger(__name__)


class ShortBody(ConnectionError):
    """A reply held fewer bytes than it announced."""


def _reply(error: BaseException) -> dict[str, Any]:
    """Return what the server said, empty where it said nothing: s3fs keeps botocore's error as the cause."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(reply := getattr(seen, "response", None), dict):
            return reply
        seen = seen.__cause__
    return {}


def _status(error: BaseException) -> int:
    """Return the HTTP status behind an error, 0 where there is none."""
    return int(_reply(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(error: BaseException) -> str:
    """Return S3's own word for an error, empty where there is none."""
    return str(_reply(error).get("Error", {}).get("Code", ""))


def _unreached(error: BaseException) -> bool:
    """Say whether nobody took our call: refused, no way there, no such host, or no answer to the knock."""
    import aiohttp
    from botocore.exceptions import (  # type: ignore[import-untyped]
        ConnectTimeoutError,
        EndpointConnectionError,
        ProxyConnectionError,
    )

    # None of botocore's three is a ConnectionError or a TimeoutError of Python's, nor an HTTPClientError of its own.
    # Its SSLError, their sibling, is left out: a certificate that is not trusted is no better a minute later.
    return isinstance(
        error,
        EndpointConnectionError | ConnectTimeoutError | ProxyConnectionError | ConnectionRefusedError
        | aiohttp.ClientConnectorError,
    )  # fmt: skip


def _may_pass(error: BaseException) -> bool:
    """Say whether asking again can help."""
    import aiohttp
    from botocore.exceptions import HTTPClientError, IncompleteReadError, ResponseStreamingError

    if status := _status(error):
        return status >= 500 or status in (408, 409, 429)
    return _unreached(error) or isinstance(
        error,
        TimeoutError | ConnectionError | HTTPClientError | IncompleteReadError | ResponseStreamingError
        | aiohttp.ClientError,
    )  # fmt: skip


def _endpoint() -> str | None:
    """Return the address of the server that the environment names, None for Amazon's own."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def client() -> Any:
    """Return this process's connection to the server that the environment names."""
    # fsspec keeps one instance per set of arguments and process, so this is cheap and keeps the
    # connection out of pickles. Listings are not kept: another process may have written a moment ago.
    found = fsspec.filesystem(
        "s3",
        use_listings_cache=False,
        endpoint_url=_endpoint(),
        config_kwargs={"retries": {"total_max_attempts": 1}, "connect_timeout": 10, "read_timeout": 60},
    )
    found.retries = 2  # `patiently` asks again; two more layers that do would multiply its time
    return found


def patiently(bucket: str, what: str, ask: Callable[[], T]) -> T:
    """Ask until there is an answer, for `PATIENCE_SECONDS` at most.

    Args:
        bucket: Who is asked.
        what: What for, as `give KEY`; completes the sentence "BUCKET did not ...".
        ask: The question; it is asked again where that can help.

    Raises:
        StoreUnavailable: There was none in that time.
        StorageError: The answer is that we may not, or that there is no such bucket.
        FileNotFoundError: No such object.
        FileExistsError: A conditional write found something there.
    """
    from botocore.exceptions import FlexibleChecksumError

    started, tries = time.monotonic(), 0
    while True:
        tries += 1
        try:
            return ask()
        except Exception as error:
            if _status(error) == 412:
                raise FileExistsError(what) from error
            damaged = isinstance(error, FlexibleChecksumError)
            if damaged and tries == DAMAGED_TRIES:
                raise StorageError(
                    f"s3://{bucket} did not {what}: what came was damaged, {tries} times, by the store's own "
                    "checksum; `internvl verify` lists damage, then run the stage that made it with --force"
                ) from error
            if not damaged and not _may_pass(error):
                raise _clear(bucket, what, error) from error
            waited = time.monotonic() - started
            # Full jitter: a thousand workers must not come back in step.
            pause = random.uniform(0, min(5.0, 0.2 * 2**tries))
            if waited + pause > PATIENCE_SECONDS:
                raise _unavailable(bucket, what, error, f"{tries} tries over {waited:.0f} s") from error
            log.warning("s3://%s did not %s: %s; try %d follows", bucket, what, str(error)[:200], tries + 1)
            time.sleep(pause)


def _unavailable(bucket: str, what: str, error: Exception, tried: str) -> StoreUnavailable:
    said = f"{type(error).__name__}: {str(error)[:200]}"
    later = "finished parts are kept: run the same command again when the store answers"
    if _unreached(error):
        server = _endpoint() or "Amazon's own server, as AWS_ENDPOINT_URL is not set"
        return StoreUnavailable(
            f"s3://{bucket} does not answer at {server}: it did not {what} in {tried}: {said}; check the address and "
            f"that the server runs; {later}"
        )
    return StoreUnavailable(f"s3://{bucket} did not {what} in {tried}: {said}; {later}")


def _clear(bucket: str, what: str, error: Exception) -> Exception:
    from botocore.exceptions import BotoCoreError, SSLError

    if isinstance(error, SSLError):
        return StorageError(
            f"s3://{bucket}: the certificate of its server is not trusted: {str(error)[:200]}; name the authority "
            "that signed it in AWS_CA_BUNDLE"
        )
    if _code(error) == "NoSuchBucket":
        return StorageError(f"there is no bucket {bucket!r}; make it, or set INTERNVL_STORE to one that is there")
    if isinstance(error, PermissionError | BotoCoreError):
        return StorageError(
            f"s3://{bucket} does not let us {what}: {str(error)[:200]}; check the credentials and the "
            "bucket's policy: reading, writing, listing and deleting are needed"
        )
    return error
