"""Where a row was not measured as the paper did: its number then stands beside the paper's, not against it."""

from stages.evaluations.choice import Choice, named_rows
from stages.evaluations.protocols import PROTOCOLS, settings_of

HARMLESS = frozenset({"shown", "judgements", "judged_captions", "tables"})
"""Settings that add something to a row and change none of its published measures."""


def departures(name: str, choice: Choice, examples: int) -> tuple[str, ...]:
    """Return what differs from the benchmark's own row; nothing where nothing does.

    Args:
        name: Of the row.
        choice: How it is measured.
        examples: How many of its examples were shown to the model.
    """
    found, spec = [], choice.spec
    if spec.examples not in (None, examples):
        found.append(f"{examples:,} of {spec.examples:,} examples")
    elif choice.limit is not None:
        found.append(f"limit {choice.limit:,}")
    row = next((each.row for each in named_rows(spec) if each.name == name), None)
    if row is not None:
        published = settings_of(PROTOCOLS[row.protocol], row.settings).model_dump(mode="json")
        found += [
            f"{setting} {value} and not {published.get(setting)}"
            for setting, value in choice.settings.items()
            if value != published.get(setting) and setting not in HARMLESS
        ]
    return tuple(found)
