"""The filter report of a file of captions: judged in batches, counted, and drawn as a source is."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from filters.cells import CELLS, Counted, summed
from filters.cube import cube_of
from filters.digits import judge_with_counts
from filters.funnel import Funnel
from filters.policies import PROFILES, Policy, caption_quality
from filters.text import Captions, language
from pipelines.caption_files import CaptionFile
from pipelines.caption_verdicts import Repeats, judged_by, with_made_columns
from pipelines.terminal import Refusal
from stages.filter_report import render
from stages.report.gallery import edges_of
from stages.report.shown import Gallery
from stages.report.survey import Survey, chosen_of, joined, sample_of, taken


def page_of_file(path: Path, profile: str, band: float) -> str:
    """Return the report of a file's captions under the strict rules.

    Args:
        path: The file.
        profile: The source of the paper that it is of, and is held against; empty for data of one's own.
        band: How far it may lie from that source's share.

    Raises:
        Refusal: No such profile, or nobody can read the file.
    """
    if profile and profile not in PROFILES:
        raise Refusal(f"no profile {profile!r}; there are {', '.join(PROFILES)}; your own data is like laion_en")
    file = CaptionFile(path)
    rules, _ = judged_by(file, caption_quality(profile or "laion_en").filters)
    policy = Policy(name="caption_quality", filters=tuple(rules))
    rows = file.rows if file.rows is not None else sum(len(batch["caption"]) for batch in file.batches(signals=False))
    funnel, counts, pieces = Funnel(), list[Counted](), []
    for uids, columns in _batches(file, policy):
        reasons, some, counted = judge_with_counts(policy.filters, columns, len(uids))
        funnel += some
        counts.append(counted)
        chosen = chosen_of(uids, rows)
        if len(chosen):
            shown = taken(columns, pa.array(chosen))
            pieces.append(sample_of(policy, [uids[at] for at in chosen.tolist()], reasons[chosen], shown))
    cube = cube_of(summed(counts, CELLS))
    seen = Survey(funnel.masks_by_language, joined(pieces), funnel.samples)
    return render(
        source=profile or re.sub(r"[^a-z0-9_]+", "_", path.stem.lower())[:80] or "file",
        policy=policy,
        funnel=funnel,
        listed=funnel.samples,
        fetched=funnel.samples,
        outcomes={},
        provenance={
            "artifact": path.name,
            "rules": f"caption_quality of {profile or 'laion_en'}",
            **({"profile": profile} if profile else {}),
            "sha256": _digest(path),
        },
        cube=cube,
        gallery=Gallery(edges_of(policy, seen, cube), seen.languages, seen.rows, len(seen.sample.uids)),
        band=band,
    )


def _batches(file: CaptionFile, policy: Policy) -> Iterator[tuple[list[bytes], dict[str, Any]]]:
    reads = {name for each in policy.filters for name in each.reads}
    repeats = Repeats(file, lambda _: None) if policy.filters else None
    first = 0
    for batch in file.batches():
        columns = with_made_columns(batch, repeats)
        if "language" not in columns:
            columns["language"] = language.names(Captions(batch["caption"]))
        columns["language"] = _plain(columns["language"])
        columns["caption"] = _plain(columns["caption"])
        texts = columns["caption"].to_pylist()
        uids = [hashlib.sha256(f"{first + n} {text or ''}".encode()).digest()[:16] for n, text in enumerate(texts)]
        first += len(uids)
        yield uids, {name: c for name, c in columns.items() if name in reads | {"caption", "language", "unsafe"}}


def _plain(column: Any) -> pa.Array:
    found = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return found.cast(pa.string())


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()[:16]
