"""Recipes: everything that decides a result, as small functions that return a frozen object."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from filters.policies import Policy
from stages import download, filtering_network, list_urls, score
from stages.sources.web_site import SiteSpec


class RecipeName(StrEnum):
    """The recipes that can be chosen."""

    TINY = "tiny"
    PHOTOS = "photos"


class SourceRecipe(BaseModel):
    """One source: where it comes from and what it has to pass."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listing: list_urls.Parameters
    download: download.Parameters
    clean: Policy
    caption_quality: Policy
    trusted: bool = Field(default=False, description="Whether the filtering network learns from it.")

    @property
    def name(self) -> str:
        """Return the source's name."""
        return self.listing.source


class Recipe(BaseModel):
    """A whole run; where it runs is `placement` and never part of a result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: RecipeName
    sources: tuple[SourceRecipe, ...]
    filtering_network: filtering_network.Parameters
    score: score.Parameters
    truth: SiteSpec | None = None
    rows_per_shard: int = 2000
    seed: int = 0
    placement: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def source(self, name: str) -> SourceRecipe:
        """Return a source by name.

        Raises:
            ValueError: The recipe has no such source.
        """
        for each in self.sources:
            if each.name == name:
                return each
        raise ValueError(
            f"recipe {self.name} has no source {name!r}; it has {', '.join(s.name for s in self.sources)}"
        )


class OwnData(BaseModel):
    """What a user brings to the photos recipe: a url list, or pictures that are already there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    urls: tuple[str, ...] = Field(default=(), description="Files or globs: parquet, csv, tsv, jsonl.")
    url_column: str = Field(default="url", description="Column that holds addresses.")
    caption_column: str = Field(default="text", description="Column that holds captions.")
    images: str | None = Field(default=None, description="Folder or WebDataset tar of pictures.")
    allow_hosts: tuple[str, ...] = Field(default=(), description="host:port that may be private, such as a test web.")


def make(name: RecipeName, own: OwnData | None = None, web_url: str = "http://127.0.0.1:18080") -> Recipe:
    """Return a recipe by name.

    Raises:
        ValueError: The photos recipe is chosen without data, or data is given to another recipe.
    """
    from pipelines.recipes.photos import photos
    from pipelines.recipes.tiny import tiny

    given = own if own is not None and (own.urls or own.images) else None
    makers: dict[RecipeName, Callable[[], Recipe]] = {
        RecipeName.TINY: lambda: tiny(web_url),
        RecipeName.PHOTOS: lambda: photos(given or OwnData()),
    }
    if name is RecipeName.PHOTOS and given is None:
        raise ValueError("the photos recipe needs your data: --urls FILE_OR_GLOB or --images FOLDER_OR_TAR")
    if name is not RecipeName.PHOTOS and given is not None:
        raise ValueError(f"recipe {name} brings its own data; use --recipe photos for yours")
    return makers[name]()
