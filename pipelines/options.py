"""The command line's application, and the options that its commands share."""

import os
from typing import Annotated

import typer

from pipelines.names import FlowName, RecipeName
from pipelines.recipes import OwnData

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="InternVL from url lists to a chat model.",
)

Recipe = Annotated[RecipeName, typer.Option("--recipe", help="Which recipe to follow.")]
Version = Annotated[str, typer.Option("--version", help="Name of the result; the recipe's name when left out.")]
Urls = Annotated[list[str] | None, typer.Option("--urls", help="Url lists: parquet, csv, tsv, jsonl; file or glob.")]
UrlColumn = Annotated[str, typer.Option("--url-column", help="Column that holds addresses.")]
CaptionColumn = Annotated[str, typer.Option("--caption-column", help="Column that holds captions.")]
Images = Annotated[str | None, typer.Option("--images", help="Folder or tar of pictures that are already there.")]
AllowHost = Annotated[list[str] | None, typer.Option("--allow-host", help="host:port that may be private.")]
Force = Annotated[bool, typer.Option("--force", help="Make everything again, also what stands.")]
What = Annotated[FlowName, typer.Argument(help="Which part of the road.")]


def own_data(
    urls: list[str] | None, url_column: str, caption_column: str, images: str | None, allow: list[str] | None
) -> OwnData:
    """Return a user's data, local names made absolute."""
    return OwnData(
        urls=tuple(os.path.abspath(u) if "://" not in u else u for u in urls or ()),
        url_column=url_column,
        caption_column=caption_column,
        images=os.path.abspath(images) if images else None,
        allow_hosts=tuple(allow or ()),
    )
