"""The commands that make new versions of shards: reshard cuts them again, takedown takes samples out."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from infra.cluster import InlineCluster
from infra.settings import settings
from infra.storage import Store
from pipelines.options import app
from pipelines.terminal import Refusal, clear_errors, console
from stages.manifest import Manifest, load
from stages.materialize import StageSpec, materialize
from stages.ref import Ref

NewVersion = Annotated[str, typer.Option("--new-version", help="Name of the version that is written.")]


@app.command()
def reshard(
    shards: Annotated[str, typer.Argument(help="Shards to cut again, name@version.")],
    new_version: NewVersion,
    keep: Annotated[Path | None, typer.Option("--keep", help="Uids to keep: one a line, or parquet.")] = None,
    rows_per_shard: Annotated[
        int | None, typer.Option("--rows-per-shard", min=1, help="Most samples of one.")
    ] = None,
    bytes_per_shard: Annotated[
        int | None, typer.Option("--bytes-per-shard", min=1, help="Most bytes of one.")
    ] = None,
) -> None:
    """Write shards again with fewer samples or other sizes; bytes are copied, no picture is decoded."""
    with clear_errors():
        from stages import reshard as stage

        ref, store = _shards(shards), Store(settings().store_root)
        given = stage.Parameters(
            keep=str(keep.resolve()) if keep else None, rows_per_shard=rows_per_shard, bytes_per_shard=bytes_per_shard
        )
        made = _make("reshard", ref, new_version, stage.pin(given, store).model_dump(mode="json"), store)
        console.print(
            f"{made.ref}  kept {made.ledger.kept:,} of {made.ledger.listed:,} samples, {len(made.parts)} shards",
            highlight=False,
        )
        if (asked := made.totals.get("keep")) and asked["listed"] > asked["kept"]:
            console.print(
                f"{asked['listed'] - asked['kept']:,} lines of the list named no sample, "
                "named one again, or one that is taken down",
                highlight=False,
            )


@app.command()
def takedown(
    listed: Annotated[Path, typer.Argument(metavar="LIST", help="What must go, one entry a line, or parquet.")],
    shards: Annotated[list[str] | None, typer.Option("--shards", help="Shards to search, name@version.")] = None,
    new_version: Annotated[
        str, typer.Option("--new-version", help="Name of what is written; made up when left out.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell which shards hold what is named.")] = False,
) -> None:
    """Take samples out of shards, and keep the list so that no later write brings them back.

    An entry is an address, a domain, a uid, or the sha256 or perceptual hash of a picture; see docs/how-to/shards.md.
    Only shards that hold what is named are written again. Samples are counted, never shown.
    """
    with clear_errors():
        from stages.takedown_list import load_lists, read_list, register, registered

        store = Store(settings().store_root)
        given = read_list(str(listed))
        searched = [load(store, _shards(each)) for each in shards or ()]
        if not searched and dry_run:
            raise Refusal("--dry-run tells which shards hold what is named; give --shards name@version")
        console.print("listed: " + ", ".join(f"{n:,} {kind}" for kind, n in given.counts().items()), highlight=False)
        if not dry_run:
            console.print(f"kept as {register(store, given)}: later writes of shards honour it", highlight=False)
        lists = registered(store)
        named = [_report(store, each, given | load_lists(store, lists)) for each in searched]
        if dry_run:
            return
        for manifest in (each for each, hits in zip(searched, named, strict=True) if hits):
            version = new_version or f"{manifest.ref.version}-{lists_name(lists)}"
            made = _make("takedown", manifest.ref, version, {"lists": lists}, store)
            console.print(
                f"{made.ref}  {made.ledger.kept:,} samples left, {made.ledger.rejected:,} taken down; "
                f"{manifest.ref} still holds them: remove it when nothing reads it",
                highlight=False,
            )


def lists_name(lists: tuple[str, ...]) -> str:
    """Return a short name of some lists, for a version that was made with them."""
    from stages.manifest import digest_of

    return digest_of(lists)[:8]


def _report(store: Store, manifest: Manifest, given: object) -> int:
    """Print the shards of an artifact that hold what is named; return how many there are."""
    from stages.takedown import find_hits
    from stages.takedown_list import Takedown

    assert isinstance(given, Takedown)
    table = Table("shard", "samples", "named by")
    hits = list(find_hits(store, manifest, given))
    for each in hits:
        kinds = ", ".join(f"{kind} {n:,}" for kind, n in sorted(each.counts.items()))
        table.add_row(each.part.key, f"{each.counts.total():,} of {len(each.kinds):,}", kinds)
    console.print(f"{manifest.ref}: {len(hits)} of {len(manifest.parts)} shards hold what is named", highlight=False)
    if hits:
        console.print(table)
    return len(hits)


def _shards(text: str) -> Ref:
    ref = Ref.model_validate(text)
    if not ref.name.startswith("shards/"):
        raise Refusal(f"{ref} is not shards; name them as shards/clean@{ref.version}")
    return ref


def _make(stage: str, ref: Ref, version: str, parameters: dict[str, object], store: Store) -> Manifest:
    if version == ref.version:
        raise Refusal(f"{ref} stands and is read from; give --new-version another name")
    target = Ref(name=ref.name, version=version)
    spec = StageSpec(stage=stage, artifact=target, parameters=parameters, inputs=(ref,))
    return materialize(spec, store, InlineCluster())
