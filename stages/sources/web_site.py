"""A small web with known dirt: url lists in the shapes of real datasets, and the truth about every row.

The plan decides for each listed row what picture its address serves, what caption stands
beside it, which fault the server plays and which dirt was planted. Shipped scores follow
the dirt, as those of the real datasets do. Everything is a pure function of the spec.
"""

import hashlib
import json
import random
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from stages.outcome import Outcome
from stages.sources.captions import caption
from stages.sources.scenes import COLORS, FIRST_OF_WEB, SHAPES, Scene, Split, sample_scene

SOURCES = ("laion_en", "laion_multi", "coyo", "cc3m", "wukong")
LANGUAGE_OF = {"laion_en": "en", "laion_multi": "de", "coyo": "en", "cc3m": "en", "wukong": "zh"}
DEFAULT_ROWS = {"laion_en": 3600, "laion_multi": 2400, "coyo": 2400, "cc3m": 1500, "wukong": 2600}

# Shares of rows per fault. Chosen so that what survives both download and the light filters is
# near the kept shares of arXiv:2312.14238, Table 2 (84.3, 85.0, 71.6, 86.7, 69.4 percent).
FAULTS: dict[str, dict[str, float]] = {
    "laion_en": {"not_found": 0.03, "gone": 0.01, "forbidden": 0.008, "opt_out": 0.01, "not_image": 0.008},
    "laion_multi": {
        "not_found": 0.03,
        "gone": 0.01,
        "forbidden": 0.008,
        "opt_out": 0.008,
        "not_image": 0.008,
    },
    "coyo": {"not_found": 0.11, "gone": 0.03, "forbidden": 0.01, "opt_out": 0.01, "not_image": 0.01},
    "cc3m": {"not_found": 0.07, "gone": 0.02, "forbidden": 0.005, "opt_out": 0.01, "not_image": 0.005},
    "wukong": {"not_found": 0.18, "gone": 0.06, "forbidden": 0.01, "opt_out": 0.005, "not_image": 0.01},
}
COMMON_FAULTS = {"truncated": 0.006, "huge": 0.002, "server_error": 0.004, "rate_limited": 0.003}
HARMLESS = {"redirect": 0.02, "rate_limited_once": 0.01}
ONCE_PER_SOURCE = ("slow", "file_scheme", "private_address")

# Dirt that the light policy should find, and dirt that only the strict caption policy should find.
LIGHT_DIRT = {
    "clip_similarity": 0.03,
    "min_side": 0.012,
    "aspect": 0.006,
    "duplicates": 0.012,
    "eval_overlap": 0.006,
    "watermark": 0.01,
    "unsafe": 0.008,
    "aesthetic": 0.008,
    "caption_length": 0.01,
}
STRICT_DIRT = {
    "boilerplate": 0.04,
    "keyword_stuffing": 0.05,
    "gibberish": 0.04,
    "completeness": 0.07,
    "placeholder": 0.03,
    "source_code": 0.02,
    "offensive": 0.01,
    "special_characters": 0.02,
    "caption_frequency": 0.03,
}
PICTURE_DIRT = ("min_side", "aspect", "duplicates")
WEB_SOURCES = ("laion_en", "laion_multi", "coyo")
SHIPPED_SCORES = ("watermark", "unsafe", "aesthetic")


class SiteSpec(BaseModel):
    """What the small web holds.

    Raises:
        ValueError: An unknown source is asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    base_url: str = Field(default="http://127.0.0.1:18080", description="Where the loopback server listens.")
    rows: dict[str, int] = Field(default_factory=lambda: dict(DEFAULT_ROWS), description="Listed rows per source.")

    def model_post_init(self, context: Any, /) -> None:
        """Refuse sources that have no plan."""
        if unknown := sorted(set(self.rows) - set(SOURCES)):
            raise ValueError(f"no plan for source {', '.join(unknown)}; known are {', '.join(SOURCES)}")

    def only(self, source: str) -> "SiteSpec":
        """Return the same site with one source; its rows are those of the whole site."""
        return self.model_copy(update={"rows": {source: self.rows[source]}})


def _pick(rng: random.Random, shares: dict[str, float]) -> str:
    point = rng.random()
    for name, share in shares.items():
        if point < share:
            return name
        point -= share
    return ""


_EN_BOILERPLATE = (
    "Click here to view larger image",
    "Add to cart",
    "Skip to main content",
    "Share on Facebook",
)
_DE_BOILERPLATE = ("Mehr erfahren", "In den Warenkorb", "Zum Inhalt springen", "Hier klicken")
_FREQUENT = {
    "en": (
        "Stock photo of colored shapes on a gray background.",
        "The best pictures of the week are in our gallery.",
    ),
    "de": ("Das Foto der Woche ist in unserer Galerie zu sehen.",),
    "zh": ("这是一张可以免费下载的几何图形素材图片。",),
}


def _dirty_caption(kind: str, scene: Scene, clean: str, language: str, rng: random.Random) -> str:
    color, shape = scene.group_color, scene.group_shape
    if kind == "caption_length":
        return rng.choice((color[:2], "-", "x", "ok"))
    if kind == "boilerplate":
        return rng.choice(_DE_BOILERPLATE if language == "de" else _EN_BOILERPLATE)
    if kind == "keyword_stuffing":
        return ", ".join(rng.choice((rng.choice(list(COLORS)), rng.choice(SHAPES), "art", "sale")) for _ in range(10))
    if kind == "gibberish":
        letters = "bcdfghjklmnpqrstvwxz"
        noise = " ".join("".join(rng.choice(letters) for _ in range(rng.randint(7, 11))) for _ in range(7))
        moji = "Ã¼berall gibt es schÃ¶ne Bilder von roten Kreisen und mehr"
        return rng.choice((noise, f"{moji} {rng.randint(10, 99)}", f"image {rng.getrandbits(80):020x} of a set"))
    if kind == "completeness":
        if language == "zh":
            return clean[: len(clean) // 2]
        pieces = clean.rstrip(".").split()
        return " ".join(pieces[: rng.randint(3, 5)]) + rng.choice((" and", " of the", "...", " with,"))
    if kind == "placeholder":
        return rng.choice((f"image placeholder {rng.randint(1, 99)}", "lorem ipsum dolor sit amet consectetur elit"))
    if kind == "source_code":
        return f'<div class="{color}"><img src="{shape}.jpg" width=10px></div> function show() {{ return 1; }}'
    if kind == "offensive":
        return f"This is a fucking {color} {shape} in a picture of shit that nobody wants."
    if kind == "special_characters":
        return f"*** {color} *** ### {shape} ### !!! @@@ $$$ %%% ^^^ &&& (((:::))) ~~~ {rng.randint(1, 9)}"
    return clean


def plan_site(spec: SiteSpec) -> pa.Table:
    """Return the truth: one row per listed row, in listing order.

    Columns: source, source_row, url, caption, language, scene (JSON, null where no scene is shown), kind
    (what the address serves), outcome (what download should record), dirt (list of planted reasons),
    similarity, watermark, unsafe, aesthetic, width, height as the source ships them.
    """
    rows: list[dict[str, Any]] = []
    for source, count in spec.rows.items():
        language = LANGUAGE_OF[source]
        for row in range(count):
            rng = random.Random(f"{spec.seed}/{source}/{row}")
            rows.append(_plan_row(spec, source, row, language, rng))
    return pa.Table.from_pylist(rows, schema=TRUTH)


TRUTH = pa.schema(
    [
        ("source", pa.string()),
        ("source_row", pa.int64()),
        ("url", pa.string()),
        ("caption", pa.string()),
        ("language", pa.string()),
        ("scene", pa.string()),
        ("kind", pa.string()),
        ("outcome", pa.string()),
        ("dirt", pa.list_(pa.string())),
        ("similarity", pa.float32()),
        ("watermark", pa.float32()),
        ("unsafe", pa.float32()),
        ("aesthetic", pa.float32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)
_OUTCOME_OF = {
    "truncated": Outcome.DECODE,
    "huge": Outcome.TOO_MANY_PIXELS,
    "redirect": Outcome.FETCHED,
    "rate_limited_once": Outcome.FETCHED,
    "slow": Outcome.TIMEOUT,
    "file_scheme": Outcome.REFUSED_SCHEME,
    "private_address": Outcome.REFUSED_ADDRESS,
}


def _plan_row(spec: SiteSpec, source: str, row: int, language: str, rng: random.Random) -> dict[str, Any]:
    index = FIRST_OF_WEB + int.from_bytes(hashlib.sha256(f"{source}/{row}".encode()).digest()[:4], "big")
    scene = sample_scene(spec.seed, index, Split.TRAIN)
    text = caption(scene, language, rng.randint(0, 1))
    fault = _pick(rng, FAULTS[source] | COMMON_FAULTS | HARMLESS)
    if row < len(ONCE_PER_SOURCE):
        fault = ONCE_PER_SOURCE[row]
    outcome = Outcome.FETCHED if not fault else _OUTCOME_OF.get(fault) or Outcome(fault)
    shares = LIGHT_DIRT | STRICT_DIRT if source in WEB_SOURCES else {"clip_similarity": 0.01, "eval_overlap": 0.004}
    dirt = _pick(rng, shares)
    if dirt in SHIPPED_SCORES and source not in WEB_SOURCES:
        dirt = ""
    if fault and dirt in PICTURE_DIRT:
        dirt = ""  # the address serves its fault, or where it leads a plain picture
    kind = fault or "plain"
    if dirt == "clip_similarity":
        other = sample_scene(spec.seed, index ^ 0x55AA55, Split.TRAIN)
        text = caption(other, language, rng.randint(0, 1))
        if (other.group_color, other.group_shape) == (scene.group_color, scene.group_shape):
            dirt = ""
    elif dirt == "caption_frequency":
        text = rng.choice(_FREQUENT[language])
    elif dirt == "eval_overlap":
        scene = sample_scene(spec.seed, index % 256, rng.choice((Split.IID, Split.UNSEEN)))
        text = caption(scene, language, rng.randint(0, 1))
    elif dirt in PICTURE_DIRT:
        kind = dirt
    else:
        text = _dirty_caption(dirt, scene, text, language, rng)
    width, height = {"min_side": (20, 20), "aspect": (96, 12)}.get(dirt, (96, 96))
    shipped = {
        "similarity": rng.uniform(0.28, 0.40) if dirt != "clip_similarity" else rng.uniform(0.26, 0.30),
        "watermark": rng.uniform(0.96, 1.0) if dirt == "watermark" else rng.betavariate(1.2, 9),
        "unsafe": rng.uniform(0.92, 1.0) if dirt == "unsafe" else rng.betavariate(1, 30),
        "aesthetic": rng.uniform(0.5, 1.8) if dirt == "aesthetic" else rng.uniform(3.0, 7.0),
    }
    url = f"{spec.base_url}/{kind}/{source}/{row:06d}.jpg"
    if kind == "file_scheme":
        url = "file:///etc/hostname"
    elif kind == "private_address":
        url = f"http://127.0.0.1:9/{source}/{row:06d}.jpg"
    has_scores = source in WEB_SOURCES
    return {
        "source": source,
        "source_row": row,
        "url": url,
        "caption": text,
        "language": language,
        "scene": json.dumps(scene.__dict__, sort_keys=True),
        "kind": kind,
        "outcome": str(outcome),
        "dirt": [dirt] if dirt else [],
        **{name: round(value, 4) if has_scores else None for name, value in shipped.items()},
        "width": width if has_scores else None,
        "height": height if has_scores else None,
    }
