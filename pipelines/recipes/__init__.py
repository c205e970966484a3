"""Recipes: everything that decides a result, as small functions that return a frozen object."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from pipelines.names import Mixing, RecipeName

if TYPE_CHECKING:  # the recipes themselves import torch, which a command that only shows something can spare
    from pipelines.recipes.recipe import Recipe


class OwnData(BaseModel):
    """What a user brings: a url list, or pictures that are already there; and trained models to start from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: str = Field(default="", description="Folder or WebDataset tar of pictures that are already there.")
    urls: tuple[str, ...] = Field(default=(), description="Url lists, as files or globs: parquet, csv, tsv, jsonl.")
    url_column: str = Field(default="url", description="Column of the url lists that holds addresses.")
    caption_column: str = Field(default="text", description="Column of the url lists that holds captions.")
    schema_name: str = Field(
        default="generic",
        description="Dataset whose published schema the url lists have: a name that internvl sources lists.",
    )
    accept_withdrawn: bool = Field(default=False, description="Read a list that its publisher withdrew.")
    block_urls: tuple[str, ...] = Field(default=(), description="Files of addresses that are left out.")
    block_domains: tuple[str, ...] = Field(default=(), description="Files of domains that are left out.")
    lists: str = Field(
        default="", description="paper: folder with the paper's url lists, a folder below it for each source."
    )
    language_model: str = Field(
        default="",
        description="one_gpu and paper: folder of a language model, or its name on the Hugging Face hub.",
    )
    vision_model: str = Field(default="", description="one_gpu and paper: folder of an InternViT to start from.")
    system: str = Field(
        default="",
        description="one_gpu and paper: published chat system whose third stage is followed, as InternVL2-2B.",
    )
    conversations: tuple[str, ...] = Field(
        default=(),
        description="Instruction data: meta JSON, jsonl, LLaVA's JSON, QUESTIONS,ANNOTATIONS, parquet or tar.",
    )
    conversation_root: str = Field(
        default="", description="Folder or tar that picture names in them start from; of a meta JSON, its paths."
    )
    mixing: Mixing = Field(
        default=Mixing.REPEAT,
        description="repeat: each row comes as often; square_root: as the roots of their numbers.",
    )
    allow_hosts: tuple[str, ...] = Field(default=(), description="host:port that may be private, such as a test web.")

    @property
    def given(self) -> bool:
        """Whether there is any."""
        return bool(self.urls or self.images)


NO_DATA = OwnData()
LISTED = (RecipeName.PHOTOS, RecipeName.ONE_GPU)
"""Recipes whose one source is the user's."""
STARTED = (RecipeName.ONE_GPU, RecipeName.PAPER)
"""Recipes that start from trained models, and can follow a published chat system."""


def make(name: RecipeName, own: OwnData | None = None, web_url: str = "http://127.0.0.1:18080") -> Recipe:
    """Return a recipe by name; without data too, to be planned, or for what comes after its data.

    Raises:
        ValueError: Something is given to a recipe that does not take it.
    """
    from pipelines.recipes.one_gpu import one_gpu
    from pipelines.recipes.own_source import with_conversations
    from pipelines.recipes.paper import paper
    from pipelines.recipes.photos import photos
    from pipelines.recipes.smoke import smoke
    from pipelines.recipes.tiny import tiny

    given = own or NO_DATA
    if given.given and name not in LISTED:
        raise ValueError(f"recipe {name} brings its own data; use --recipe photos for yours, or one_gpu")
    if given.lists and name is not RecipeName.PAPER:
        raise ValueError(f"recipe {name} has no use for the paper's lists; use --recipe paper, or --urls for yours")
    if (given.language_model or given.vision_model) and name not in STARTED:
        raise ValueError(f"recipe {name} trains its models from nothing; one_gpu and paper start from trained ones")
    if given.system and name not in STARTED:
        raise ValueError(f"recipe {name} has a chat model of its own; one_gpu and paper follow published systems")
    if given.conversations and name not in (*LISTED, RecipeName.PAPER):
        raise ValueError(f"recipe {name} asks about drawn scenes; photos, one_gpu and paper take --conversations")
    makers: dict[RecipeName, Callable[[], Recipe]] = {
        RecipeName.TINY: lambda: tiny(web_url),
        RecipeName.SMOKE: lambda: smoke(web_url),
        RecipeName.PHOTOS: lambda: photos(given),
        RecipeName.ONE_GPU: lambda: one_gpu(given),
        RecipeName.PAPER: lambda: paper(given),
    }
    return with_conversations(makers[name](), given)
