"""What a user brings, as the options of a command line that brings it again."""

import shlex

from pipelines.names import Mixing, RecipeName
from pipelines.recipes import NO_DATA, OwnData

_OPTIONS = {
    "urls": "--urls",
    "url_column": "--url-column",
    "caption_column": "--caption-column",
    "schema_name": "--schema",
    "accept_withdrawn": "--accept-withdrawn",
    "block_urls": "--block-urls",
    "block_domains": "--block-domains",
    "images": "--images",
    "lists": "--lists",
    "language_model": "--language-model",
    "vision_model": "--vision-model",
    "system": "--system",
    "conversations": "--conversations",
    "conversation_root": "--conversation-root",
    "mixing": "--mixing",
    "allow_hosts": "--allow-host",
}
"""The option of each field of `OwnData`."""


def own_options(own: OwnData) -> list[str]:
    """Return the words of a command line that bring the same; what is as when nothing is said is left out."""
    words: list[str] = []
    for field, option in _OPTIONS.items():
        value = getattr(own, field)
        if value == getattr(NO_DATA, field):
            continue
        if value is True:
            words.append(option)
        else:
            for each in value if isinstance(value, tuple) else (value,):
                words += [option, each.value if isinstance(each, Mixing) else str(each)]
    return words


def pilot_command(recipe: RecipeName, version: str, own: OwnData) -> str:
    """Return the command that prices the lists of a plan, with all that the plan was told of them."""
    told = ["--recipe", str(recipe), *(["--version", version] if version else []), *own_options(own)]
    return shlex.join(["internvl", "plan", "data", *told, "--pilot", "10000"])
