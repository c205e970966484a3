"""The reference page of all filters, written from the filters themselves: `python -m filters.reference`."""

import inspect
import math
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from filters.base import Filter
from filters.bits import BITS, OWN_BITS
from filters.catalogue import FILTERS, FLAGS
from filters.policies import EXEMPT, Policy, caption_quality, clean

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "filters.md"

HEAD = """# Filters

One reason to drop a sample per filter. This page is written from the code by `python -m filters.reference`, and a
test compares the two. All filters of a policy see every row; what they say is one bit each in a 64-bit mask, and a
row whose mask is 0 is kept. A signal that was not computed (null, NaN, infinity) passes, unless a filter says
otherwise. A missing caption counts as an empty one, which only the two rules on length drop.

Captions are read in one form: entities resolved, NFKC, white space collapsed and trimmed. A *unit* is a word of a
script with spaces, or 1.7 characters of one without.

- **clean**, the light step: {clean}
- **caption_quality**, the strict step: {strict}; exempt are {exempt}
- **in no policy**, to be switched on: {other}

Bits 0 to 47 are ours, {first} to {last} belong to filters of your own (`filters_folder`), and
the highest is given to none: masks are positive also where numbers have a sign.
"""


def page() -> str:
    """Return the page as markdown."""
    ours = [clean(), caption_quality("laion_en")]
    named = {rule.reason for policy in ours for rule in policy.filters}
    head = HEAD.format(
        clean=_names(ours[0]),
        strict=_names(ours[1]),
        exempt=", ".join(sorted(EXEMPT)),
        other=", ".join(f"`{name}`" for name in FILTERS if name not in named),
        first=OWN_BITS.start,
        last=OWN_BITS.stop - 1,
    )
    return "\n".join([head, *(_section(each) for each in FILTERS.values())])


def _names(policy: Policy) -> str:
    return ", ".join(f"`{rule.reason}`" for rule in policy.filters)


def _section(rule: type[Filter]) -> str:
    flag = " A flag." if rule.reason in FLAGS else ""
    lines = [
        f"## {rule.reason}",
        "",
        " ".join(inspect.cleandoc(rule.__doc__ or "").split()),
        "",
        f"Bit {BITS[rule.reason]}. Reads {', '.join(f'`{name}`' for name in rule.reads)}."
        + (f" Compares {rule.unit}." if rule.unit else "")
        + flag,
        "",
        f"Threshold: {rule.origin}.",
        "",
    ]
    fields = {name: field for name, field in rule.model_fields.items() if name != "kind"}
    if fields:
        lines += ["| field | default | |", "| :-- | --: | :-- |"]
        lines += [f"| `{name}` | {_value(field)} | {field.description or ''} |" for name, field in fields.items()]
        lines.append("")
    lines += [f"- drops {_examples(rule.examples.dropped)}", f"- keeps {_examples(rule.examples.kept)}", ""]
    return "\n".join(lines)


def _value(field: FieldInfo) -> str:
    value: Any = field.default
    return "none" if value == () else f"{value:g}" if isinstance(value, float) and value < 1e5 else str(value)


def _examples(examples: tuple[Any, ...]) -> str:
    return ", ".join(_example(each) for each in examples)


def _example(example: Any) -> str:
    if isinstance(example, tuple):
        return "(" + ", ".join(_example(each) for each in example) + ")"
    if example is None:
        return "nothing"
    if isinstance(example, str):
        shown = example if len(example) <= 80 else f"{example[:20]}… ({len(example)} characters)"
        # As code, so that markup in a caption stays text; two backticks hold one.
        return f"`` {shown.replace('|', '∣')} ``" if shown.strip() else "white space"
    return "not computed" if math.isnan(example) else str(example)


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
