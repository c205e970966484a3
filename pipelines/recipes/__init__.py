"""Recipes: everything that decides a result, as small functions that return a frozen object."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from pipelines.names import RecipeName

if TYPE_CHECKING:  # the recipes themselves import torch, which a command that only shows something can spare
    from pipelines.recipes.recipe import Recipe


class OwnData(BaseModel):
    """What a user brings to the photos recipe: a url list, or pictures that are already there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    urls: tuple[str, ...] = Field(default=(), description="Files or globs: parquet, csv, tsv, jsonl.")
    url_column: str = Field(default="url", description="Column that holds addresses.")
    caption_column: str = Field(default="text", description="Column that holds captions.")
    schema_name: str = Field(default="generic", description="Known source whose schema the url lists have.")
    accept_withdrawn: bool = Field(default=False, description="Read a list that its publisher withdrew.")
    block_urls: tuple[str, ...] = Field(default=(), description="Files of addresses that are not listed.")
    block_domains: tuple[str, ...] = Field(default=(), description="Files of domains that are not listed.")
    images: str | None = Field(default=None, description="Folder or WebDataset tar of pictures.")
    allow_hosts: tuple[str, ...] = Field(default=(), description="host:port that may be private, such as a test web.")

    @property
    def given(self) -> bool:
        """Whether there is any."""
        return bool(self.urls or self.images)


NO_DATA = OwnData()


def make(name: RecipeName, own: OwnData | None = None, web_url: str = "http://127.0.0.1:18080") -> Recipe:
    """Return a recipe by name; photos without data too, for what comes after its data.

    Raises:
        ValueError: Data is given to a recipe that brings its own.
    """
    from pipelines.recipes.photos import photos
    from pipelines.recipes.smoke import smoke
    from pipelines.recipes.tiny import tiny

    if own is not None and own.given and name is not RecipeName.PHOTOS:
        raise ValueError(f"recipe {name} brings its own data; use --recipe photos for yours")
    makers: dict[RecipeName, Callable[[], Recipe]] = {
        RecipeName.TINY: lambda: tiny(web_url),
        RecipeName.SMOKE: lambda: smoke(web_url),
        RecipeName.PHOTOS: lambda: photos(own or OwnData()),
    }
    return makers[name]()
