"""LAION's sets, as published from 2022 to 2024 (arXiv:2210.08402; laion-prepro; Re-LAION-5B).

`laion2B-*` were written with WIDTH and HEIGHT the wrong way round; the script that made `-joined`
turned them back (laion-prepro, laion5B/watermark/big_join.py), and what was made from `-joined` has them right.
"""

from stages.sources.catalog import Column, KnownSource

_LICENSE = (
    "The list is CC BY 4.0; pictures and captions keep the licences of the pages that they are on, which LAION "
    "does not grant."
)
_WITHDRAWN = "re_laion: Re-LAION-5B is the same list with 2,236 links to suspected illegal material removed"
_SWAPPED = "WIDTH and HEIGHT are the wrong way round in the published files; turned back."
_FILLED = "pwatermark was filled with exactly 0.5 where it was not computed; read as not known."
_OUTER = "punsafe and pwatermark come from an outer join: null or NaN where a row was not found."
_PROVENANCE = "Common Crawl image links with alt texts, kept where CLIP finds picture and text alike."


def _plain(language: bool) -> tuple[Column, ...]:
    return (
        Column(name="SAMPLE_ID", type="int64"),
        Column(name="URL", type="string", role="url"),
        Column(name="TEXT", type="string", role="caption"),
        Column(name="HEIGHT", type="int32", role="height"),
        Column(name="WIDTH", type="int32", role="width"),
        Column(name="LICENSE", type="string", role="license"),
        *((Column(name="LANGUAGE", type="string", role="language"),) if language else ()),
        Column(name="NSFW", type="string"),
        Column(name="similarity", type="double", role="similarity"),
    )


def _joined(language: bool, aesthetic: bool = False) -> tuple[Column, ...]:
    return (
        Column(name="URL", type="string", role="url"),
        Column(name="TEXT", type="string", role="caption"),
        Column(name="WIDTH", type="int32", role="width"),
        Column(name="HEIGHT", type="int32", role="height"),
        Column(name="similarity", type="double", role="similarity"),
        *((Column(name="LANGUAGE", type="string", role="language"),) if language else ()),
        Column(name="hash", type="int64"),
        Column(name="pwatermark", type="float", role="watermark"),
        Column(name="punsafe", type="float", role="unsafe"),
        *(
            (Column(name="AESTHETIC_SCORE", type="float", role="aesthetic", also=("aesthetic",)),)
            if aesthetic
            else ()
        ),
    )


def _set(
    name: str, title: str, columns: tuple[Column, ...], multi: bool, rows: int | None, **more: object
) -> KnownSource:
    return KnownSource.model_validate(
        {
            "name": name,
            "title": title,
            "files": "128 parquet files, snappy",
            "columns": columns,
            "language": None if multi else "en",
            "profile": "laion_multi" if multi else "laion_en",
            "rows": rows,
            "license_note": _LICENSE,
            "provenance": _PROVENANCE,
            "withdrawn": _WITHDRAWN,
            **more,
        }
    )


_PLAIN = {"swapped": True, "unknown_text": ("?",), "defects": (_SWAPPED, "LICENSE is '?' where it is not known.")}
_JOINED = {"not_known": {"watermark": (0.5,)}, "defects": (_OUTER, _FILLED)}

LAION_SOURCES = (
    _set("laion2b_en", "LAION-2B-en", _plain(False), False, 2_320_000_000, paper="LAION-en", **_PLAIN),
    _set("laion2b_multi", "LAION-2B-multi", _plain(True), True, 2_260_000_000, paper="LAION-multi", **_PLAIN),
    _set("laion2b_en_joined", "LAION-2B-en-joined", _joined(False), False, None, paper="LAION-en", **_JOINED),
    _set("laion2b_multi_joined", "LAION-2B-multi-joined", _joined(True), True, None, paper="LAION-multi", **_JOINED),
    _set("laion2b_en_aesthetic", "LAION-2B-en-aesthetic", _joined(False, True), False, None, **_JOINED),
    _set("laion2b_multi_aesthetic", "LAION-2B-multi-aesthetic", _joined(True, True), True, None, **_JOINED),
    KnownSource(
        name="re_laion",
        title="Re-LAION-5B, research and research-safe",
        files="parquet files, gated; a repository each for en, multi and nolang",
        columns=(
            Column(name="url", type="string", role="url", also=("URL",)),
            Column(name="caption", type="string", role="caption", also=("TEXT",)),
            Column(name="width", type="int64", role="width", also=("WIDTH", "original_width"), required=False),
            Column(name="height", type="int64", role="height", also=("HEIGHT", "original_height"), required=False),
            Column(name="similarity", type="double", role="similarity", required=False),
            Column(name="language", type="string", role="language", also=("LANGUAGE",), required=False),
            Column(name="pwatermark", type="double", role="watermark", required=False),
            Column(name="punsafe", type="double", role="unsafe", required=False),
            Column(name="aesthetic", type="double", role="aesthetic", also=("AESTHETIC_SCORE",), required=False),
        ),
        profile="laion_multi",
        rows=5_526_641_167,
        license_note="The list is Apache 2.0, for research; pictures and captions keep the licences of their pages.",
        provenance=_PROVENANCE + " Links to suspected illegal material are removed.",
        not_known={"watermark": (0.5,)},
        defects=(
            _OUTER,
            _FILLED,
            "The files are gated and were not at hand: the columns are those that their users name, LAION's older "
            "spelling is read too, and only url and caption are required.",
            "English files have no language column; say `language` in the parameters.",
        ),
    ),
    KnownSource(
        name="laion_coco",
        title="LAION-COCO",
        files="128 parquet files, snappy",
        columns=(
            Column(name="URL", type="string", role="url"),
            Column(name="TEXT", type="string", role="caption_alt"),
            Column(name="top_caption", type="string", role="caption"),
            Column(name="all_captions", type="list<string>"),
            Column(name="all_similarities", type="list<double>"),
            Column(name="WIDTH", type="int64", role="width"),
            Column(name="HEIGHT", type="int64", role="height"),
            Column(name="similarity", type="double", role="similarity"),
            Column(name="hash", type="int64"),
            Column(name="pwatermark", type="double", role="watermark"),
            Column(name="punsafe", type="double", role="unsafe"),
        ),
        language="en",
        profile="laion_coco",
        rows=663_000_000,
        paper="LAION-COCO",
        license_note="CC BY 4.0 for the list; captions are BLIP's.",
        provenance="LAION-2B-en with captions by BLIP L/14, the best of many chosen by two CLIP models.",
        not_known={"watermark": (0.5,)},
        defects=(_OUTER, _FILLED, "The caption is `top_caption`; the web's own TEXT goes along as `caption_alt`."),
    ),
)
