"""The head of an HTTP/1.1 answer, read strictly: what could be framed in two ways is refused."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from infra.egress_error import EgressError

MOST_HEADERS = 128

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n]*)?\Z")
# Blanks around a value are stripped afterwards: as a pattern they would be tried in every possible way.
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n\x00]*)\Z")


class Headers:
    """Header fields in the order they came; names in any case, values as Latin-1 text."""

    __slots__ = ("_fields",)

    def __init__(self, fields: list[tuple[str, str]] | None = None) -> None:
        """Take (lower-case name, value) pairs."""
        self._fields = fields or []

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the first value of a name."""
        name = name.lower()
        return next((value for known, value in self._fields if known == name), default)

    def get_all(self, name: str, default: list[str] | None = None) -> list[str]:
        """Return every value of a name."""
        name = name.lower()
        return [value for known, value in self._fields if known == name] or default or []

    def items(self) -> list[tuple[str, str]]:
        """Return all fields."""
        return list(self._fields)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._fields)


class Head(NamedTuple):
    """An answer before its body."""

    status: int
    headers: Headers
    keeps_open: bool
    length: int | None
    """Bytes of body, -1 for chunks, None when only the end of the connection ends it."""


def parse_head(lines: list[bytes]) -> Head:
    """Read a status line and fields; folded lines, blanks before the colon and bare CRs are refused."""
    status = _STATUS.match(lines[0].rstrip(b"\r"))
    if not status or len(lines) > MOST_HEADERS:
        raise EgressError("bad_response")
    fields = []
    for line in lines[1:]:
        field = _FIELD.match(line.removesuffix(b"\r"))
        if not field:
            raise EgressError("bad_response")
        fields.append((field[1].decode("ascii").lower(), field[2].strip(b" \t").decode("latin-1")))
    headers, code, modern = Headers(fields), int(status[2]), status[1] == b"1"
    lengths, codings = headers.get_all("content-length"), headers.get_all("transfer-encoding")
    length: int | None = None
    if lengths:
        # Two lengths are two answers, even where they agree; a digit is an ASCII one.
        if len(lengths) > 1 or codings or not re.fullmatch(r"[0-9]{1,18}", lengths[0]):
            raise EgressError("bad_response", code)
        length = int(lengths[0])
    elif codings:
        if [coding.lower() for coding in codings] != ["chunked"] or not modern:
            raise EgressError("bad_response", code)
        length = -1
    if code < 200 or code in (204, 304):
        length = 0
    wishes = ",".join(headers.get_all("connection")).lower()
    keeps = length is not None and ("close" not in wishes if modern else "keep-alive" in wishes)
    return Head(code, headers, keeps, length)
