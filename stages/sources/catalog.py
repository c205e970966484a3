"""Every source that we know: the schema of its files, its language, its licence, and its defects.

Schemas are those of the published files; where a derived set renames a column both names are
accepted. Row counts are those of Table 2 of arXiv:2312.14238 where it lists the set.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from stages.sources.columns import Layout, Take


class Column(BaseModel):
    """One column of a source's files, as published."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    type: str = Field(description="Arrow type in the published files.")
    role: str | None = Field(default=None, description="What we take it as; None where it stays behind.")
    also: tuple[str, ...] = Field(default=(), description="Names in derived files.")
    required: bool = Field(default=True, description="Whether a file without it is refused.")
    nulls: bool = Field(default=True, description="Whether published rows leave it out.")


class KnownSource(BaseModel):
    """One published dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    files: str = Field(description="How it is published.")
    kind: Literal["parquet", "csv", "tsv", "json_lists"] = "parquet"
    header: bool = Field(default=True, description="Whether csv and tsv files begin with the columns' names.")
    quoted: bool = True
    columns: tuple[Column, ...]
    language: str | None = Field(default=None, description="Language of all captions; None where a column says it.")
    profile: str = Field(description="Whose thresholds it is judged by, a source name of filters/policies.py.")
    rows: int | None = Field(default=None, description="Rows as published.")
    paper: str = Field(default="", description="Its line in Table 2 of the paper.")
    license_note: str
    provenance: str
    withdrawn: str = Field(default="", description="What to take instead, where the publisher withdrew it.")
    swapped: bool = False
    not_known: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    unknown_text: tuple[str, ...] = ()
    defects: tuple[str, ...] = Field(default=(), description="What is wrong with it, and what we do about it.")

    @property
    def layout(self) -> Layout:
        """Return how its files are read."""
        return Layout(
            takes=tuple(
                Take(role=each.role, names=(each.name, *each.also), required=each.required)
                for each in self.columns
                if each.role
            ),
            header=None if self.header else tuple(each.name for each in self.columns),
            quoted=self.quoted,
            lists=self.kind == "json_lists",
            swapped=self.swapped,
            not_known=self.not_known,
            unknown_text=self.unknown_text,
        )


def known() -> dict[str, KnownSource]:
    """Return all known sources by name, in the order of the paper's table."""
    from stages.sources.catalog_laion import LAION_SOURCES
    from stages.sources.catalog_others import OTHER_SOURCES

    return {each.name: each for each in (*LAION_SOURCES, *OTHER_SOURCES)}


GENERIC = "generic"
SITE_SCHEMAS = {
    "laion_en": "laion2b_en_aesthetic",
    "laion_multi": "laion2b_multi_aesthetic",
    "coyo": "coyo",
    "cc3m": "cc3m",
    "wukong": "wukong",
}
"""In which source's shape the tiny recipe's web lists each of its sources."""


def source_named(name: str) -> KnownSource:
    """Return a known source.

    Raises:
        ValueError: No such source; the message lists those there are.
    """
    if name not in (sources := known()):
        raise ValueError(f"no source schema {name!r}; known are {', '.join((GENERIC, *sources))}")
    return sources[name]
