"""The frame of all live pages: one style, and a policy that lets nothing in and runs nothing."""

import base64
import hashlib
import time
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipelines.live.facts import words
from stages.pace import duration
from stages.report.svg import drawing, rect

TEMPLATES = Path(__file__).parent / "templates"
DOORS = (("Overview", "/"), ("Lineage", "/lineage"), ("Parts", "/grid"), ("Checkpoints", "/checkpoints"))
QUICK, SLOW = 5, 60
"""Seconds after which a page draws itself anew: while something runs, and while nothing does."""


def _css() -> Markup:
    from stages.report.page import TEMPLATES as REPORTS

    return Markup((REPORTS / "report.css").read_text() + (TEMPLATES / "live.css").read_text())


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters.update(full=lambda count: f"{count:,}", ago=ago, words=words, page_name=page_name)
    return made


def ago(at: float) -> str:
    """Return how long ago something was; empty where nothing says when."""
    return f"{duration(max(0.0, time.time() - at))} ago" if at else ""


def page_name(role: str) -> str:
    """Return what a link to a page of an artifact is called; most artifacts have one page alone."""
    return "report" if role == "page" else words(role)


CSS = _css()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'"
)
ENVIRONMENT = _environment()


def page(template: str, title: str, **values: Any) -> bytes:
    """Return a page.

    Args:
        template: Which one, by its name without `.html.j2`.
        title: Of the page.
        values: What the template shows; `here` is the page's own address, `refresh` the seconds until it is drawn
            anew, `still` where it is not.
    """
    frame = {
        "policy": POLICY,
        "css": CSS,
        "doors": DOORS,
        "here": "",
        "refresh": 0,
        "still": "",
        "drawn_at": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    }
    return ENVIRONMENT.get_template(f"{template}.html.j2").render(title=title, **{**frame, **values}).encode()


def bar(share: float, words: str) -> Markup:
    """Return a progress bar."""
    parts = [rect(0, 0, 1000, 14, "back", 4), rect(0, 0, 1000 * share, 14, "fill", 4)]
    return drawing(1000, 14, f"{100 * share:.0f} %: {words}", parts, "bar", stretch=True)
