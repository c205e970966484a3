"""The page made again from what stands in a store: other runs and people's answers can be put beside it."""

from collections.abc import Sequence

import pyarrow as pa
from pydantic import ValidationError

from filters.cube import Cube
from filters.funnel import Funnel
from filters.policies import Policy
from infra.storage import Store
from stages.errors import Missing
from stages.filter_report import page_of
from stages.manifest import Manifest, ManifestError, find, load
from stages.ref import Ref
from stages.report import reviews
from stages.report.applying import applying_of
from stages.report.difference import Difference, difference
from stages.report.gallery import MOST_PICTURES, edges_of, with_pictures
from stages.report.hosts import hosts_of
from stages.report.paper import BAND
from stages.report.rows import SourceRows
from stages.report.shown import Gallery
from stages.report.survey import survey
from stages.workspace import Output, read_table


def verdicts_at(store: Store, ref: Ref) -> list[Manifest]:
    """Return the verdicts that a reference names: one source's, or all of a policy, such as verdicts/clean@tiny.

    Raises:
        ManifestError: There are none, or it is something else.
    """
    if ref.name.count("/") == 1 and ref.name.startswith("verdicts/"):
        refs = [Ref(name=f"{ref.name}/{source}", version=ref.version) for source in store.folders(ref.name)]
        found = [manifest for each in refs if (manifest := find(store, each))]
        if not found:
            raise Missing(f"{store.root} has no finished verdicts {ref}", ref.name, ref.version)
        return found
    manifest = load(store, ref)
    if manifest.stage != "filter":
        raise ManifestError(
            f"{ref} was made by stage {manifest.stage}; a report is about verdicts, such as "
            "verdicts/caption_quality/laion_en@tiny"
        )
    return [manifest]


def policy_of(manifest: Manifest) -> Policy:
    """Return the rules that gave these verdicts.

    Raises:
        ManifestError: They were given by rules that this version does not know.
    """
    try:
        return Policy.model_validate(manifest.identity["parameters"]["policy"])
    except ValidationError as error:
        raise ManifestError(
            f"{manifest.ref} was judged by rules that are not known here ({error.errors()[0]['msg']}); "
            "run the filter stage again"
        ) from None


def again(store: Store, manifests: Sequence[Manifest], against: str = "", band: float = BAND) -> str:
    """Return the page about one source's verdicts, or about several of one policy and version.

    Args:
        store: Where they are.
        manifests: Verdicts.
        against: Version of another run to compare with; empty for none.
        band: How far a strict source may lie from the paper's share; relative to it.

    Raises:
        ManifestError: What they were made from is gone, or the counts do not add up.
    """
    sources, galleries, changes = [], dict[str, Gallery](), list[Difference]()
    answers = list[reviews.Review]()
    for manifest in manifests:
        rows, gallery, change = _one(store, manifest, against, MOST_PICTURES // len(manifests))
        sources.append(rows)
        galleries[rows.source] = gallery
        changes += [change] if change else []
        answers += reviews.stored(store, manifest, rows.source, [rule.reason for rule in rows.policy.filters])
    first = manifests[0]
    pools = [_parent(store, m, f"pool/{source_of(m)}") for m in manifests]
    one = len(manifests) == 1
    return page_of(
        sources,
        provenance=_provenance(manifests),
        galleries=galleries,
        reviews=answers,
        changes=changes,
        hosts=hosts_of(_output(store, first), pools[0]) if one else (),
        planted=first.totals.get("planted") if one else None,
        drawn=any(m.totals.get("planted") for m in manifests),
        planted_outcomes=pools[0].totals.get("planted") if one else None,
        band=band,
        applying={
            source_of(m): found for m in manifests if (found := applying_of(store, m.ref, m.identity)) is not None
        },
    )


def source_of(manifest: Manifest) -> str:
    """Return which source these verdicts are about."""
    return str(manifest.identity["parameters"]["source"])


def _output(store: Store, manifest: Manifest) -> Output:
    return Output(store=store, ref=manifest.ref, stage=manifest.stage, identity=manifest.identity)


def _parent(store: Store, manifest: Manifest, name: str) -> Manifest:
    """Return an input of a manifest: the one whose digest it names, whatever its version."""
    wanted = manifest.identity["inputs"].get(name)
    versions = store.folders(name)
    for version in sorted(versions, key=lambda v: (v != manifest.ref.version, v)):
        found = find(store, Ref(name=name, version=version))
        if found is not None and found.digest == wanted:
            return found
    raise ManifestError(
        f"{manifest.ref} was made from {name} with digest {str(wanted)[:16]}, which {store.root} no longer holds; "
        "run the filter stage again"
    )


def _one(
    store: Store, manifest: Manifest, against: str, pictures: int
) -> tuple[SourceRows, Gallery, Difference | None]:
    source, policy, output = source_of(manifest), policy_of(manifest), _output(store, manifest)
    signals, pool = _parent(store, manifest, f"signals/{source}"), _parent(store, manifest, f"pool/{source}")
    cube = Cube.model_validate(manifest.totals["cube"]) if "cube" in manifest.totals else None
    funnel = Funnel.model_validate(manifest.totals["funnel"])
    seen = survey(output, manifest.parts, policy, signals, funnel)
    edges = with_pictures(edges_of(policy, seen, cube), seen.sample, output, pool, pictures)
    gallery = Gallery(edges, seen.languages, seen.rows, len(seen.sample.uids))
    rows = SourceRows(
        source=source,
        policy=policy,
        funnel=funnel,
        listed=pool.ledger.listed,
        decodable=pool.ledger.kept,
        outcomes=pool.totals.get("outcomes", {}),
        cube=cube,
        languages=seen.languages,
    )
    change = None
    if against:
        old = load(store, Ref(name=manifest.ref.name, version=against))
        change = difference(
            source,
            (old, policy_of(old), _table(store, old)),
            (manifest, policy, _table(store, manifest)),
            seen.sample,
        )
    return rows, gallery, change


def _table(store: Store, manifest: Manifest) -> pa.Table:
    parts = [read_table(store, manifest, part, "verdicts", ["uid", "reasons"]) for part in manifest.parts]
    empty = pa.table({"uid": pa.array([], pa.binary(16)), "reasons": pa.array([], pa.uint64())})
    return pa.concat_tables([empty, *parts])


def _provenance(manifests: Sequence[Manifest]) -> dict[str, str]:
    first = manifests[0]
    if len(manifests) == 1:
        inputs = {name.partition("/")[0]: str(digest)[:16] for name, digest in first.identity["inputs"].items()}
        return {"artifact": str(first.ref), "digest": first.digest[:16], **inputs}
    policy = first.ref.name.rpartition("/")[0]
    digests = {m.ref.name: m.digest[:16] for m in manifests}
    return {"artifact": f"{policy}@{first.ref.version}", **digests}
