"""The lineage graph as one SVG: a box for each artifact that leads to its page, lines to what was made from it."""

from markupsafe import Markup

from pipelines.live.layers import Places, arranged, reduced
from pipelines.live.lineage import Graph, Node, Standing, in_order
from stages.report.svg import drawing, path, rect, text

WIDTH, HEIGHT = 158.0, 58.0
COLUMN, ROW = 172.0, 96.0
EDGE = 6.0
LETTERS = 25
"""Most letters of a line in a box."""
SIGNS = {
    Standing.WHOLE: "",
    Standing.STALE: "⚠ stale",
    Standing.RESTS: "⚠ rests on stale",
    Standing.MISSING: "✗ missing",
    Standing.RUNNING: "▸ running",
    Standing.WAITING: "… waiting",
    Standing.FAILED: "× failed",
    Standing.STOPPED: "‖ stopped",
}


def drawn(graph: Graph, version: str = "") -> Markup:
    """Return the drawing at its natural size.

    Args:
        graph: What to draw.
        version: The version that the page is about: others are marked; all are alike where it is empty.
    """
    order = in_order(graph)
    places = arranged(order, reduced(order, graph.inputs))
    parts = [path(_line(points), "made-from") for points in places.lines.values()]
    parts += [_box(graph.nodes[key], places, version) for key in order]
    wide, tall = (places.width - 1) * COLUMN + WIDTH + 2 * EDGE, (places.layers - 1) * ROW + HEIGHT + 2 * EDGE
    marked = sum(node.standing is not Standing.WHOLE for node in graph.nodes.values())
    label = f"{len(graph.nodes)} artifacts, {marked} of them marked; the table below says the same in words"
    # Without a size of its own a drawing would shrink to its frame, and its words with it.
    return Markup('<div class="scroll">{}</div>').format(
        drawing(wide, tall, label, parts, "lineage").replace(
            Markup("<svg "), Markup(f'<svg width="{wide:.0f}" height="{tall:.0f}" '), 1
        )
    )


def _corner(column: float, layer: int) -> tuple[float, float]:
    return EDGE + column * COLUMN, EDGE + layer * ROW


def _line(points: tuple[tuple[float, int], ...]) -> str:
    """Return a curve from the foot of the upper box through the gaps to the head of the lower one."""
    told = ""
    for number, (column, layer) in enumerate(points):
        x, y = _corner(column, layer)
        x += WIDTH / 2
        if not number:
            told = f"M{x:.1f} {y + HEIGHT:.1f}"
            continue
        before = points[number - 1]
        x0, y0 = _corner(*before)
        x0, y0 = x0 + WIDTH / 2, y0 + HEIGHT
        half = (y - y0) / 2
        told += f"C{x0:.1f} {y0 + half:.1f} {x:.1f} {y - half:.1f} {x:.1f} {y:.1f}"
        if number + 1 < len(points):
            told += f"V{y + HEIGHT:.1f}"
    return told


def _box(node: Node, places: Places, version: str) -> Markup:
    x, y = _corner(*places.nodes[node.key])
    kind, _, name = node.name.rpartition("/")
    other = bool(version) and bool(node.version) and node.version != version
    state = node.standing.value.replace(" ", "-")
    parts = [
        rect(x, y, WIDTH, HEIGHT, f"box {state}{' other' if other else ''}", 6),
        text(x + 8, y + 16, _cut(kind), "kind"),
        text(x + 8, y + 33, _cut(name), "name"),
        text(x + 8, y + 49, _cut(_third(node, other)), f"third {state}"),
    ]
    told = Markup("<title>{}</title>").format(f"{node.key}{': ' if node.why else ''}{node.why}")
    inside = Markup("").join([told, *parts])
    if not node.page:
        return Markup("<g>{}</g>").format(inside)
    return Markup('<a href="{}">{}</a>').format(node.page, inside)


def _third(node: Node, other: bool) -> str:
    """Return a box's last line: what is marked, else the version and its rows."""
    said = [SIGNS[node.standing]] if node.standing is not Standing.WHOLE else []
    if node.version:
        said.append(f"≠ {node.version}" if other else node.version)
    if not said[1:] and node.rows is not None:
        said.append(f"{node.rows:,}")
    return " · ".join(said)


def _cut(words: str) -> str:
    return words if len(words) <= LETTERS else f"{words[: LETTERS - 1]}…"
