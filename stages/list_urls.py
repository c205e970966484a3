"""Read one source's url list: foreign columns in, our rows out.

Two phases, both spread over the cluster: pieces of files are read, normalised and spilled by bucket of `url_id`;
then each bucket is sorted, freed of exact repeats, and published. Neither holds more than a stretch of rows, and
a part's rows are a function of content: the same rows in other files, or in another order, give the same bytes.

Parts have two roles: `rows` (`stages.sources.rows.SCHEMA`, by address) and, where there are any, `rejected`.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from infra.cluster import InlineCluster
from stages.list_parameters import Parameters, adapter_of, look, pictures_of, pin
from stages.manifest import Manifest, ManifestError, Part
from stages.sources import blocklists
from stages.sources.catalog import SITE_SCHEMAS, source_named
from stages.sources.collect import Spilled, spill_piece, spread
from stages.sources.columns import ColumnNames, Layout, layout_of
from stages.sources.merge import Merge, merge_bucket
from stages.sources.pieces import Survey
from stages.sources.reading import resolve, survey
from stages.sources.rows import SCHEMA, Rejection, Rules
from stages.sources.spill import power_of_two, spills_for
from stages.sources.web_lists import publish
from stages.workspace import Output, Workspace

__all__ = ["SCHEMA", "VERSION", "ColumnNames", "Parameters", "look", "pin", "run"]

VERSION = 2


def _survey(item: tuple[str, str], layout: Layout) -> tuple[str, Survey]:
    return item[0], survey(item[0], layout, item[1])


def _files(parameters: Parameters, scratch: Path) -> tuple[list[tuple[str, str]], Layout, str | None, bool]:
    """Return (files with the names that people know them by, layout, language, whether they lie in our scratch)."""
    if parameters.site:
        if parameters.source not in parameters.site.rows:
            raise ManifestError(f"the site lists {', '.join(parameters.site.rows)}, not {parameters.source!r}")
        path = publish(parameters.site.only(parameters.source), scratch)[parameters.source]
        layout = source_named(SITE_SCHEMAS[parameters.source]).layout
        return [(str(path), path.name)], layout, parameters.language, True
    if parameters.images:
        path = scratch / "pictures.jsonl"
        rows = ({"url": f"images:///{name}", "caption": text} for name, text in pictures_of(parameters.images))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return [(str(path), parameters.images)], layout_of(ColumnNames()), parameters.language, True
    layout, language = adapter_of(parameters)
    return [(path, path) for path in resolve(parameters.paths)], layout, language, False


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """List a source: every row is kept, or rejected with a reason from a closed list.

    Raises:
        ManifestError: A file cannot be read or has another schema, before any row is read; or no row is left.
    """
    if sum(map(bool, (parameters.paths, parameters.images, parameters.site))) != 1:
        raise ManifestError(f"source {parameters.source}: give exactly one of a url list, pictures, or the tiny site")
    files, layout, language, ours = _files(parameters, here.scratch)
    block = blocklists.load(parameters.block_urls, parameters.block_domains)
    # What lies in our own scratch is not seen by other machines.
    cluster = InlineCluster() if ours else here.cluster
    surveys = dict(spread(cluster, partial(_survey, layout=layout), files))
    spills = spills_for(here, output, sum(each.rows for each in surveys.values()))
    places = [(number, piece) for number, (path, _) in enumerate(files) for piece in surveys[path].pieces]
    items = [(number, file, piece) for number, (file, piece) in enumerate(places)]
    try:
        read_piece = partial(spill_piece, rules=Rules(parameters.source, layout, language, block), spills=spills)
        spilled = list(spread(cluster, read_piece, items, _telling(here, len(items), "pieces", "reading")))
        kept = _check(parameters.source, files, spilled)
        merge = Merge(
            spills,
            tuple(sorted(key for each in spilled for key in each.keys)),
            tuple(name for _, name in files),
            power_of_two(kept, parameters.rows_per_part),
        )
        work = partial(merge_bucket, merge=merge, output=output)
        merged = spread(here.cluster, work, range(merge.works), _telling(here, merge.works, "buckets", "sorting"))
        parts = [part for made in merged for part in made]
        manifest = output.commit(parts, totals=_totals(surveys.values(), spilled, parts))
        spills.clear_all()
        return manifest
    finally:
        spills.clear()


def _telling(here: Workspace, total: int, unit: str, note: str) -> Callable[[int], None]:
    return lambda done: here.progress(done, total, unit, note)


def _check(source: str, files: Sequence[tuple[str, str]], spilled: Sequence[Spilled]) -> int:
    """Return how many rows may be kept.

    Raises:
        ManifestError: There is none.
    """
    listed, kept = sum(each.listed for each in spilled), sum(each.kept for each in spilled)
    if not listed:
        named = ", ".join(name for _, name in files[:3]) + (" and others" if len(files) > 3 else "")
        raise ManifestError(f"source {source} lists no rows: {named} is empty; give a list that holds some")
    if not kept:
        reasons = _in_order(sum((each.rejected for each in spilled), Counter()))
        raise ManifestError(f"source {source}: all {listed} rows were rejected ({reasons}); nothing to do")
    return kept


def _in_order(reasons: Counter[str]) -> dict[str, int]:
    return {str(each): reasons[each] for each in Rejection if reasons[each]}


def _totals(surveys: Iterable[Survey], spilled: Sequence[Spilled], parts: Sequence[Part]) -> dict[str, Any]:
    """Return what the manifest keeps for people: rows by reason, values that could not be read, empty files."""
    rejected: Counter[str] = Counter()
    for part in parts:
        rejected.update(part.facts["rejected"])
    unread = sum((each.unread for each in spilled), Counter())
    empty = sum(each.empty for each in surveys)
    totals: dict[str, Any] = {"rejected": _in_order(rejected)}
    if unread:
        totals["unread"] = dict(sorted(unread.items()))
    return totals | ({"empty_files": empty} if empty else {})
