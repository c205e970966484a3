"""The command line's application, and the options that its commands share."""

import os
from collections.abc import Iterable
from typing import Annotated

import typer

from pipelines.graph import Step
from pipelines.names import FlowName, Mixing, RecipeName
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
Schema = Annotated[
    str, typer.Option("--schema", help="Known source whose schema the lists have: `internvl sources` shows them.")
]
AcceptWithdrawn = Annotated[bool, typer.Option("--accept-withdrawn", help="Read a list that its publisher withdrew.")]
BlockUrls = Annotated[
    list[str] | None, typer.Option("--block-urls", help="File of addresses, or of their SHA-256, to leave out.")
]
BlockDomains = Annotated[
    list[str] | None, typer.Option("--block-domains", help="File of domains to leave out, with all below them.")
]
Images = Annotated[str | None, typer.Option("--images", help="Folder or tar of pictures that are already there.")]
AllowHost = Annotated[list[str] | None, typer.Option("--allow-host", help="host:port that may be private.")]
Lists = Annotated[
    str | None, typer.Option("--lists", help="Folder with the paper's url lists, a folder below it for each source.")
]
LanguageModel = Annotated[
    str | None,
    typer.Option(
        "--language-model", help="Language model for one_gpu and paper: a folder, or owner/name on the hub."
    ),
]
VisionModel = Annotated[
    str | None, typer.Option("--vision-model", help="InternViT that one_gpu and paper start from: a folder or .pth.")
]
System = Annotated[
    str | None,
    typer.Option("--system", help="Published chat system that one_gpu and paper follow, such as InternVL-Chat-V1-5."),
]
Conversations = Annotated[
    list[str] | None,
    typer.Option(
        "--conversations",
        help="Instruction data to tune on: official meta JSON or jsonl, LLaVA's JSON, VQAv2's QUESTIONS,ANNOTATIONS, "
        "a parquet or a tar of questions and answers; may be given again.",
    ),
]
ConversationRoot = Annotated[
    str | None,
    typer.Option("--conversation-root", help="Folder or tar that picture names in instruction data start from."),
]
MixingOption = Annotated[
    Mixing, typer.Option("--mixing", help="How often each source of instruction data comes: by rows, or their root.")
]
Approve = Annotated[
    bool, typer.Option("--approve", help="Stop after the filters until a person approves what they kept.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the steps and what they would cost; do nothing.")]
Force = Annotated[bool, typer.Option("--force", help="Make everything again, also what stands.")]
What = Annotated[FlowName, typer.Argument(help="Which part of the road.")]


def allowed_hosts(steps: Iterable[Step]) -> list[str]:
    """Return a line for each host that downloads may ask although its address is private."""
    hosts = {host for step in steps for host in step.spec.parameters.get("allow_hosts", ())}
    return [f"downloads may ask {host} although it is private (--allow-host)" for host in sorted(hosts)]


def own_data(
    urls: list[str] | None,
    url_column: str,
    caption_column: str,
    images: str | None,
    allow: list[str] | None,
    *,
    schema: str = "generic",
    accept_withdrawn: bool = False,
    block_urls: list[str] | None = None,
    block_domains: list[str] | None = None,
    lists: str | None = None,
    language_model: str | None = None,
    vision_model: str | None = None,
    system: str | None = None,
    conversations: list[str] | None = None,
    conversation_root: str | None = None,
    mixing: Mixing = Mixing.REPEAT,
) -> OwnData:
    """Return what a user brings, local names made absolute; a language model that is no folder may be on the hub."""

    def absolute(paths: list[str] | None) -> tuple[str, ...]:
        return tuple(path if "://" in path else os.path.abspath(path) for path in paths or ())

    def instruction_data(path: str) -> str:
        # Questions and annotations, unless the comma is part of a name.
        return ",".join(absolute([path] if os.path.isfile(path) else path.split(",")))

    def folder(path: str | None) -> str:
        return os.path.abspath(os.path.expanduser(path)) if path and "://" not in path else path or ""

    spoken = language_model if language_model and not os.path.isdir(language_model) else folder(language_model)
    return OwnData(
        lists=folder(lists),
        system=system or "",
        language_model=spoken,
        vision_model=folder(vision_model),
        urls=absolute(urls),
        schema_name=schema,
        accept_withdrawn=accept_withdrawn,
        block_urls=absolute(block_urls),
        block_domains=absolute(block_domains),
        url_column=url_column,
        caption_column=caption_column,
        images=os.path.abspath(images) if images else "",
        allow_hosts=tuple(allow or ()),
        conversations=tuple(map(instruction_data, conversations or ())),
        conversation_root=folder(conversation_root),
        mixing=mixing,
    )
