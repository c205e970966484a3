"""Every known source is listed from a file in its own schema, with its defects put right."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from published import (
    CAPTIONS,
    DELIMITED,
    HIGH,
    NO_CAPTION,
    NO_URL,
    PARQUET,
    REPEAT,
    ROWS,
    WIDE,
    caption,
    table,
    url,
    write,
)

from filters.funnel import PAPER
from filters.policies import EXEMPT, caption_quality
from infra.cluster import InlineCluster
from infra.storage import Store
from stages.manifest import Manifest, ManifestError
from stages.materialize import StageSpec, materialize
from stages.ref import Ref
from stages.sources.catalog import SITE_SCHEMAS, known
from stages.workspace import read_table

KNOWN = known()


def listed(store: Store, source: str, path: Path, **more: object) -> tuple[Manifest, list[dict[str, object]]]:
    given = {"source": source, "adapter": source, "paths": [str(path)], "accept_withdrawn": True, **more}
    spec = StageSpec(stage="list_urls", artifact=Ref(name=f"listing/{source}", version="v"), parameters=given)
    made = materialize(spec, store, InlineCluster())
    rows = [row for part in made.parts for row in read_table(store, made, part, "rows").to_pylist()]
    return made, sorted(rows, key=lambda row: str(row["url"]))


def test_the_catalogue_has_the_published_columns() -> None:
    assert set(KNOWN) == {*PARQUET, *DELIMITED, "sbu"}
    for source, columns in PARQUET.items():
        said = [(each.name, each.type) for each in KNOWN[source].columns]
        assert said == [(name, str(kind).replace("list<item: ", "list<")) for name, kind in columns], source
    for source, (_, names) in DELIMITED.items():
        assert tuple(each.name for each in KNOWN[source].columns) == names


@pytest.mark.parametrize("source", KNOWN)
def test_a_source_is_listed_from_its_published_shape(source: str, store: Store, tmp_path: Path) -> None:
    made, rows = listed(store, source, write(source, tmp_path))
    columns = {each.role: each for each in KNOWN[source].columns if each.role}
    assert (made.ledger.listed, made.ledger.kept, made.ledger.rejected) == (ROWS, ROWS - 3, 3)
    assert made.totals == {"rejected": {"no_url": 1, "no_caption": 1, "repeat": 1}}
    left = [row for row in range(ROWS) if row not in (NO_CAPTION, NO_URL, REPEAT)]
    assert {row["url"]: row["caption"] for row in rows} == {url(row): caption(row) for row in left}
    by_row = {row: next(each for each in rows if each["url"] == url(row)) for row in left}
    assert {row["language"] for row in rows} == {"de" if "language" in columns else KNOWN[source].language}
    assert {row["host"] for row in rows} == {"pictures.example.com"}
    if "width" in columns:
        assert (by_row[0]["width"], by_row[0]["height"]) == (WIDE, HIGH)
        assert (by_row[9]["width"], by_row[9]["height"]) == (None, None)
    if "watermark" in columns:
        filled = 0.5 if source == "coyo" else None  # LAION writes exactly 0.5 where it does not know
        assert [by_row[row]["source_watermark"] for row in (1, 2, 4, 6)] == [filled, None, None, 0.25]
    for score in {"similarity", "unsafe", "aesthetic"} & set(columns):
        assert [by_row[row][f"source_{score}"] for row in (1, 4, 6)] == [0.375, None, None]
    if "license" in columns:
        assert [by_row[row]["license"] for row in (0, 1)] == [None, "cc-by"]
    assert by_row[0]["caption_alt"] == ("alt 0" if source == "laion_coco" else None)


@pytest.mark.parametrize("source", sorted(PARQUET))
def test_derived_files_with_other_types_are_read_the_same(source: str, store: Store, tmp_path: Path) -> None:
    """A null on the way made numbers of integers; some writers leave large strings, bytes or dictionaries."""
    _, straight = listed(store, source, write(source, tmp_path))
    other = table(source)
    for at, field in enumerate(other.schema):
        if pa.types.is_integer(field.type):
            other = other.set_column(at, field.name, other[field.name].cast(pa.float64()))
        elif pa.types.is_string(field.type):
            kind = pa.binary() if field.name in CAPTIONS else pa.large_string()
            changed = (
                other[field.name].cast(kind) if field.name != "LANGUAGE" else pc.dictionary_encode(other[field.name])
            )
            other = other.set_column(at, field.name, changed)
    pq.write_table(other, tmp_path / "derived.parquet", compression="zstd")
    store.remove(f"listing/{source}")
    assert listed(store, source, tmp_path / "derived.parquet")[1] == straight


def test_a_withdrawn_list_is_refused_and_its_substitute_named(store: Store, tmp_path: Path) -> None:
    path = write("laion2b_en", tmp_path)
    with pytest.raises(ManifestError, match=r"LAION-2B-en was withdrawn .* take re_laion: .*set accept_withdrawn "):
        listed(store, "laion2b_en", path, accept_withdrawn=False)
    assert not store.keys("listing")
    listed(store, "re_laion", write("re_laion", tmp_path), accept_withdrawn=False)


def test_profiles_and_counts_fit_the_policies_and_the_paper() -> None:
    assert {each.profile for each in KNOWN.values()} == set(PAPER)
    assert {each.profile for each in KNOWN.values()} >= EXEMPT
    for each in KNOWN.values():
        assert bool(caption_quality(each.profile).filters) == (each.profile not in EXEMPT)
        assert each.license_note and each.provenance
        if each.paper and each.rows:
            # Table 2 counts millions, and rounds: CC3M was published with 3.3.
            assert each.rows / 1e6 == pytest.approx(PAPER[each.profile][0], rel=0.11), each.name
    assert set(SITE_SCHEMAS.values()) <= set(KNOWN)


def test_an_unknown_name_is_refused_with_those_there_are(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="source x: no source schema 'laion_6b'; known are generic, laion2b_en, "):
        listed(store, "x", write("coyo", tmp_path), adapter="laion_6b")


def test_other_spellings_and_left_out_columns_are_read(store: Store, tmp_path: Path) -> None:
    short = table("laion2b_en_aesthetic").rename_columns(
        [*table("laion2b_en_aesthetic").column_names[:-1], "aesthetic"]
    )
    pq.write_table(short, tmp_path / "short.parquet")
    _, rows = listed(store, "laion2b_en_aesthetic", tmp_path / "short.parquet")
    assert {row["source_aesthetic"] for row in rows} == {0.375, None}
    upper = table("re_laion").select(["url", "caption", "width"]).rename_columns(["URL", "TEXT", "WIDTH"])
    pq.write_table(upper, tmp_path / "upper.parquet")
    _, rows = listed(store, "re_laion", tmp_path / "upper.parquet", language="en")
    assert {(row["language"], row["height"]) for row in rows} == {("en", None)} and rows[0]["width"] == WIDE
    pq.write_table(upper.drop_columns(["TEXT"]), tmp_path / "less.parquet")
    store.remove("listing/re_laion")
    with pytest.raises(ManifestError, match=r"less\.parquet has no column 'caption', only URL, WIDTH; name yours"):
        listed(store, "re_laion", tmp_path / "less.parquet")
