"""A name for one finished artifact: `signals/laion_en@demo`."""

import re
from typing import Any

from pydantic import BaseModel, ConfigDict, model_serializer, model_validator

_NAME = re.compile(r"[a-z0-9_]+(?:/[a-z0-9_]+)*")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Ref(BaseModel):
    """`name@version`; the artifact lives at `<root>/<name>/<version>/`.

    Raises:
        ValueError: The name or the version holds characters that could leave the store.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    version: str

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            name, separator, version = value.partition("@")
            if not separator:
                raise ValueError(f"{value!r} is not a reference; write it as name@version")
            return {"name": name, "version": version}
        return value

    @model_validator(mode="after")
    def _checked(self) -> "Ref":
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"artifact name {self.name!r}: lower-case letters, digits, '_' and '/' only")
        check_version(self.version)
        return self

    @model_serializer
    def _as_text(self) -> str:
        return str(self)

    def __str__(self) -> str:
        """Return `name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def folder(self) -> str:
        """Key of the artifact's folder in the store."""
        return f"{self.name}/{self.version}"

    def key(self, file: str) -> str:
        """Return the store key of one of the artifact's files."""
        return f"{self.folder}/{file}"


def check_version(version: str) -> None:
    """Refuse what cannot be the name of a version.

    Raises:
        ValueError: It is empty, too long, or holds characters that could leave the store.
    """
    if not _VERSION.fullmatch(version):
        raise ValueError(f"version {version!r}: letters, digits, '.', '_', '-', at most 64")
