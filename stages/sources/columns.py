"""How the columns of foreign files become ours: names, accepted types, and repairs of known defects."""

from enum import StrEnum
from typing import Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field


class Kind(StrEnum):
    """What a column may hold; integers that met a null on their way are numbers in derived files."""

    TEXT = "text"
    NUMBER = "number"

    def accepts(self, found: pa.DataType) -> bool:
        """Say whether a column of this Arrow type can be read; a column of nulls alone always can."""
        if pa.types.is_null(found):
            return True
        if pa.types.is_dictionary(found):
            return self.accepts(found.value_type)
        if self is Kind.TEXT:
            return is_text(found) or is_bytes(found)
        return bool(pa.types.is_integer(found) or pa.types.is_floating(found) or pa.types.is_decimal(found))


def is_text(found: pa.DataType) -> bool:
    """Say whether an Arrow type is one of the strings."""
    return bool(pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found))


def is_bytes(found: pa.DataType) -> bool:
    """Say whether an Arrow type is raw bytes; some writers store text so, hence it is looked into."""
    return bool(pa.types.is_binary(found) or pa.types.is_large_binary(found))


KIND_OF = {
    "url": Kind.TEXT,
    "caption": Kind.TEXT,
    "caption_alt": Kind.TEXT,
    "language": Kind.TEXT,
    "license": Kind.TEXT,
    "hash": Kind.TEXT,
    "width": Kind.NUMBER,
    "height": Kind.NUMBER,
    "similarity": Kind.NUMBER,
    "watermark": Kind.NUMBER,
    "unsafe": Kind.NUMBER,
    "aesthetic": Kind.NUMBER,
}
"""Everything that we take from a source, by our name for it."""


class ColumnNames(BaseModel):
    """What a list of your own calls its columns; None where it has no such column."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = "url"
    caption: str = "caption"
    caption_alt: str | None = None
    language: str | None = None
    license: str | None = None
    width: str | None = None
    height: str | None = None
    similarity: str | None = None
    watermark: str | None = None
    unsafe: str | None = None
    aesthetic: str | None = None
    hash: str | None = Field(default=None, description="Hash of the picture's bytes, hexadecimal.")
    hash_kind: Literal["md5", "sha256"] = "sha256"
    header: tuple[str, ...] | None = Field(default=None, description="Names for files without a header line.")


class Take(BaseModel):
    """One column that we read: what the source calls it, also in derived files, and what we call it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: str
    names: tuple[str, ...]
    required: bool = True

    @property
    def kind(self) -> Kind:
        """Return what the column may hold."""
        return KIND_OF[self.role]

    def found_in(self, columns: list[str]) -> str | None:
        """Return the file's name for it, None where the file has no such column."""
        return next((name for name in self.names if name in columns), None)


class Layout(BaseModel):
    """How to read the files of one source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    takes: tuple[Take, ...]
    header: tuple[str, ...] | None = Field(default=None, description="Names for files without a header line.")
    quoted: bool = Field(default=True, description="Whether quotes in csv and tsv group a value.")
    lists: bool = Field(default=False, description="Whether a JSON file is one object of parallel lists.")
    swapped: bool = Field(default=False, description="Whether the source's width and height are the wrong way round.")
    not_known: dict[str, tuple[float, ...]] = Field(
        default_factory=dict, description="Numbers that the source writes where it does not know, by our name."
    )
    unknown_text: tuple[str, ...] = Field(default=(), description="Texts that say nothing, such as a license of '?'.")
    hash_kind: Literal["md5", "sha256"] = "sha256"


def layout_of(columns: ColumnNames) -> Layout:
    """Return the layout of a list of your own: every column that is named must be there."""
    named = {role: getattr(columns, role) for role in KIND_OF}
    return Layout(
        takes=tuple(Take(role=role, names=(name,)) for role, name in named.items() if name),
        header=columns.header,
        hash_kind=columns.hash_kind,
    )
