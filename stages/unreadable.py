"""Why a file, a bucket or a server cannot be read, as one line: the thing, the fact, the next move.

Each library has errors of its own for the same few facts. They are told apart by the names of their classes, the
nearest first, so that nothing is imported only to be compared with; a fact that nobody foresaw keeps its own words.
"""

import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError

import pyarrow as pa

from stages.errors import ManifestError

_CREDENTIALS = (
    "it wants credentials, and there are none",
    "export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, before `internvl up`",
)
_NO_ANSWER = "check the address, AWS_ENDPOINT_URL where it is s3://, and that the server runs"
_LOOK = "check the file, or leave it out"
_BROKEN = ("it is damaged, or breaks off", "fetch it again")

FACTS: dict[str, tuple[str, str]] = {
    "FileNotFoundError": ("there is no such file or folder", "check the name"),
    "IsADirectoryError": ("it is a folder", "name the files in it"),
    "NotADirectoryError": ("what should be a folder on the way there is a file", "check the name"),
    "PermissionError": ("it may not be read by you", "check the permissions of the file, or the credentials"),
    "NoCredentialsError": _CREDENTIALS,
    "PartialCredentialsError": _CREDENTIALS,
    "ProfileNotFound": ("the profile that AWS_PROFILE names is not configured", "check AWS_PROFILE"),
    "gaierror": ("there is no server of that name", "check the address, and the network"),
    "ClientConnectorDNSError": ("there is no server of that name", "check the address, and the network"),
    "ConnectionRefusedError": ("its server refuses the connection", _NO_ANSWER),
    "ClientConnectorCertificateError": ("the certificate of its server is not trusted", "check the address"),
    "ClientConnectorError": ("its server cannot be reached", _NO_ANSWER),
    "EndpointConnectionError": ("its server cannot be reached", _NO_ANSWER),
    "ProxyConnectionError": ("the proxy on the way cannot be reached", "check the proxy that the environment names"),
    "ConnectTimeoutError": ("its server does not answer in time", _NO_ANSWER),
    "TimeoutError": ("its server does not answer in time", _NO_ANSWER),
    "ReadError": ("it is no tar, or breaks off", "give a folder, or a whole tar"),
    "UnicodeDecodeError": ("it is no text in UTF-8", "write it as UTF-8"),
    "BadGzipFile": _BROKEN,
    "EOFError": _BROKEN,
}
"""(The fact, the next move) by the name of an error's class."""


def faults() -> tuple[type[Exception], ...]:
    """Return what reading may raise through no fault of the code; costly, so asked for where something was raised."""
    from aiohttp import ClientError as HttpError
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

    return (
        OSError, EOFError, ValueError, zlib.error, tarfile.TarError, pa.ArrowException, HttpError, BotoCoreError,
        ClientError,
    )  # fmt: skip


def fact_of(error: BaseException) -> tuple[str, str]:
    """Return what an error says of what was read, and the next move."""
    # The first of a chain of errors knows best: fsspec says FileNotFoundError of a server that is down.
    for each in reversed(list(_chain(error))):
        if known := _known(each):
            return known
    words = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(words)[:200], _LOOK


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _known(error: BaseException) -> tuple[str, str] | None:
    if isinstance(error, JSONDecodeError):
        return f"it is no JSON ({error})", _LOOK
    if status := getattr(error, "status", None):
        return f"its server says {status} {getattr(error, 'message', '')}".rstrip(), "check the address"
    return next((FACTS[each.__name__] for each in type(error).__mro__ if each.__name__ in FACTS), None)


def unreadable(path: str, error: BaseException) -> ManifestError:
    """Return the error that names what cannot be read, why, and the next move."""
    fact, move = fact_of(error)
    return ManifestError(f"{path} cannot be read: {fact}; {move}")


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn whatever cannot be read in the block into one line that names it by `path`.

    Raises:
        ManifestError: Something could not be read; one that the block raised itself passes as it is.
    """
    try:
        yield
    except faults() as error:
        raise unreadable(path, error) from error
