"""What a manifest's totals say, as lines for people: names as words, zeros counted instead of listed."""

from collections.abc import Mapping, Sequence

MOST_LINES = 24
MOST_LETTERS = 400


def words(name: str) -> str:
    """Return a name of the program as words."""
    return name.replace("_", " ")


def lines_of(value: object) -> tuple[str, ...]:
    """Return one total as lines; a table of tables has one for each of its rows that says anything."""
    if isinstance(value, Mapping) and any(isinstance(each, Mapping) for each in value.values()):
        said = {name: _line(each) for name, each in value.items()}
        told = [f"{words(str(name))}: {line}" for name, line in said.items() if line]
        more = (f"and {len(told) - MOST_LINES:,} more",) if len(told) > MOST_LINES else ()
        return (*(line[:MOST_LETTERS] for line in told[:MOST_LINES]), *more)
    return (_line(value)[:MOST_LETTERS],)


def _line(value: object) -> str:
    if isinstance(value, Mapping):
        known = {words(str(name)): each for name, each in value.items() if each not in (None, 0, "", {}, [])}
        numbers = all(isinstance(each, int | float) for each in known.values())
        pairs = sorted(known.items(), key=lambda pair: -pair[1]) if numbers else list(known.items())
        return ", ".join(f"{name} {_line(each)}" for name, each in pairs)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_line(each) for each in value)
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
