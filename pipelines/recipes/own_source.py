"""What every recipe for a user's own data asks of it in the same way."""

from typing import Any

from infra.settings import settings
from infra.storage import Store
from pipelines.recipes import OwnData
from pipelines.recipes.recipe import Recipe
from stages import download, list_urls
from stages.conversation_naming import named
from stages.conversation_sources import pin
from stages.manifest import ManifestError


def own_listing(own: OwnData, rows_per_part: int) -> list_urls.Parameters:
    """Return how a user's list or folder is read, bound to the bytes that lie there now."""
    return list_urls.pin(
        list_urls.Parameters(
            source="own",
            paths=own.urls,
            images=own.images or None,
            adapter=own.schema_name,
            columns=list_urls.ColumnNames(url=own.url_column, caption=own.caption_column),
            accept_withdrawn=own.accept_withdrawn,
            block_urls=own.block_urls,
            block_domains=own.block_domains,
            rows_per_part=rows_per_part,
        )
    )


def own_download(own: OwnData, **given: Any) -> download.Parameters:
    """Return how a user's pictures are fetched, block-lists bound; `given` is what a recipe decides itself."""
    return download.pin(
        download.Parameters(
            images=own.images or None,
            allow_hosts=own.allow_hosts,
            block_urls=own.block_urls,
            block_domains=own.block_domains,
            **given,
        )
    )


def with_conversations(recipe: Recipe, own: OwnData) -> Recipe:
    """Return a recipe that is tuned on a user's instruction data, where there is some.

    Raises:
        ManifestError: A file is missing or of no known format, or two sources have one name.
    """
    if not own.conversations:
        return recipe
    store = Store(settings().store_root)
    told = [each for path in own.conversations for each in named(path, store, own.conversation_root or None)]
    sources = tuple(pin(each, store) for each in told)
    names = [each.name for each in sources]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ManifestError(f"two sources of instruction data are called {twice}; give one file another name")
    return recipe.told(sources, own.mixing.value)
