"""What a model is, in one line of the chat page and on a page of its own."""

import base64
import html
import io
import re
from collections.abc import Sequence

from PIL import Image

from stages.serving.pictures import SeenPicture
from stages.serving.served_model import ServedModel

_STYLE = (
    "body{font:16px/1.55 system-ui,sans-serif;max-width:52rem;margin:0 auto;padding:1.5rem 1.25rem 4rem;"
    "color:#1c2530}"
    "a{color:#0e6b80}table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}"
    "td,th{text-align:left;padding:.35rem .9rem .35rem 0;border-bottom:1px solid #d8dee4;vertical-align:top}"
    "pre{font-size:.82rem;line-height:1.45;overflow-x:auto;padding:1rem;"
    "background:#f3f5f7;border-radius:.6rem}code{font-size:.88em;overflow-wrap:anywhere}"
    "@media(prefers-color-scheme:dark){body{background:#0f1419;color:#e8edf2}a{color:#6cc6d8}"
    "td,th{border-color:#2c3742}pre{background:#182028}}"
)

CRISP = 100
"""Tiles of fewer pixels are drawn pixel by pixel, as the few that they are."""


def counted(number: int) -> str:
    """Return a number as people say it: `1.1 M`."""
    for unit, one in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= one:
            return f"{number / one:.1f} {unit}"
    return str(number)


def numbers(model: ServedModel) -> list[tuple[str, str]]:
    """Return what can be read off a model's files, as (what, value)."""
    tiles = "1 tile" if model.max_tiles == 1 else f"up to {model.max_tiles} tiles and a thumbnail"
    return [
        ("parameters", counted(model.parameters)),
        ("a picture", f"{tiles} of {model.image_size} × {model.image_size} pixels"),
        ("a tile", f"{model.tokens_per_tile} tokens"),
        ("conversation and answer", f"{model.context:,} tokens at most"),
    ]


def headline(model: ServedModel) -> str:
    """Return the head of the chat page."""
    size, picture, tile, _ = (value for _, value in numbers(model))
    return (
        f"<h1>{html.escape(model.name)}</h1><p>{size} parameters; a picture is {picture}, {tile} each. "
        '<br><a href="facts" target="_blank" rel="noopener">Checkpoint facts</a></p>'
    )


def sight(model: ServedModel, pictures: Sequence[SeenPicture]) -> str:
    """Return what a model sees of pictures: each one's tiles where they lie in it, and the whole one, small."""
    head = "<h2>What the model sees</h2>"
    if not pictures:
        return head + "<p>No picture yet. The tiles that the model is given appear here.</p>"
    total, figures = 0, []
    for number, picture in enumerate(pictures, 1):
        tiles = model.tiles(picture.image, len(pictures))
        total += len(tiles)
        columns, rows = model.grid(picture.image, len(pictures))
        cut = "".join(_tile(each, f"tile {place}") for place, each in enumerate(tiles[: columns * rows], 1))
        small = f'<div class="small">{_tile(tiles[-1], "the whole picture, small")}</div>' if len(tiles) > 1 else ""
        said = [f"Picture {number}"] if len(pictures) > 1 else []
        said += [f"{columns} × {rows} tiles, then the whole, small"] if small else []
        caption = f"<figcaption>{': '.join(said)}</figcaption>" if said else ""
        grid = f'<div class="cut" style="grid-template-columns:repeat({columns},1fr)">{cut}</div>'
        figures.append(f"<figure>{grid}{small}{caption}</figure>")
    tokens = f"{total * model.tokens_per_tile:,} tokens"
    crisp = " crisp" if model.image_size < CRISP else ""
    return (
        f'{head}<div class="sight{crisp}">{"".join(figures)}</div>'
        f"<p>{total} tile{'s' * (total > 1)} of {model.image_size} × {model.image_size} pixels, {tokens}.</p>"
    )


def _tile(tile: Image.Image, name: str) -> str:
    out = io.BytesIO()
    tile.save(out, "WEBP", quality=90, lossless=tile.width < CRISP)
    return f'<img src="data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}" alt="{name}">'


def facts_page(model: ServedModel) -> str:
    """Return a page with a model's numbers and its card; everything of the card is escaped."""
    rows = "".join(f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in numbers(model))
    card = _card(model.facts) if model.facts.strip() else "<p>This folder has no README.md that says more.</p>"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(model.name)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>'
        f'<p><a href="./">Back to the chat</a></p><h1>{html.escape(model.name)}</h1><table>{rows}</table>{card}'
        "</body></html>"
    )


def _card(markdown: str) -> str:
    """Return the few forms of Markdown that our model cards use; whatever else there is stays text."""
    text = re.sub(r"\A---\n.*?\n---\n", "", markdown, flags=re.DOTALL)
    out: list[str] = []
    for number, block in enumerate(re.split(r"^```.*$", text, flags=re.MULTILINE)):
        if number % 2:
            out.append(f"<pre>{html.escape(block.strip())}</pre>")
            continue
        out += [_block(each) for each in re.split(r"\n\s*\n", block.strip()) if each.strip()]
    return "".join(out)


def _block(text: str) -> str:
    lines = text.splitlines()
    if heading := re.fullmatch(r"(#{1,4}) (.*)", lines[0]):
        # The page has its own first heading already.
        level = max(2, len(heading[1]))
        rest = _block("\n".join(lines[1:])) if lines[1:] else ""
        return f"<h{level}>{_inline(heading[2])}</h{level}>{rest}"
    if all(line.startswith("|") for line in lines):
        return "<table>" + "".join(_row(line) for line in lines if not re.fullmatch(r"[|:\- ]+", line)) + "</table>"
    return f"<p>{_inline(' '.join(lines))}</p>"


def _row(line: str) -> str:
    return "<tr>" + "".join(f"<td>{_inline(cell.strip())}</td>" for cell in line.strip("|").split("|")) + "</tr>"


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
