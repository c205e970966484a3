"""What a user asks to be measured, as a command line or a form says it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipelines.changes import parse
from stages.evaluations.protocols import PROTOCOLS
from stages.manifest import ManifestError


class Wanted(BaseModel):
    """What a user asks for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path | None = None
    """Folder with a folder or file per benchmark."""
    names: tuple[str, ...] = ()
    """Only these benchmarks; all whose data are found when empty."""
    at: dict[str, Path] = {}
    """Where the data of a benchmark lie that are not below `data`."""
    own: tuple[Path, ...] = ()
    """Descriptions of the user's own datasets."""
    limit: int | None = None
    changes: dict[str, dict[str, Any]] = {}
    """Settings by protocol."""

    @classmethod
    def of(
        cls,
        data: str = "",
        names: Sequence[str] = (),
        at: Sequence[str] = (),
        own: Sequence[str] = (),
        limit: int | None = None,
        changes: Sequence[str] = (),
    ) -> "Wanted":
        """Read what stands on a command line or in a form: NAME=PATH and PROTOCOL.FIELD=VALUE.

        A folder in `own` stands for all descriptions in it.

        Raises:
            ManifestError: One of them is not written so, names an unknown protocol, or `data` is no folder.
        """
        places, settled = {}, dict[str, dict[str, Any]]()
        for text in at:
            name, separator, place = text.partition("=")
            if not separator or not name or not place:
                raise ManifestError(f"--at {text!r} names no place; write it as NAME=PATH")
            places[name] = Path(place).expanduser().resolve()
        for path, value in parse(changes).items():
            protocol, separator, name = path.partition(".")
            if protocol not in PROTOCOLS or not name:
                raise ManifestError(
                    f"--set {path} names no setting; write PROTOCOL.FIELD=VALUE, the protocols are "
                    f"{', '.join(PROTOCOLS)}"
                )
            settled.setdefault(protocol, {})[name] = value
        if data and not Path(data).expanduser().is_dir():
            raise ManifestError(f"there is no folder {data}; --data names the folder that holds one per benchmark")
        return cls(
            data=Path(data).expanduser().resolve() if data else None,
            names=tuple(names),
            at=places,
            own=tuple(path for each in own for path in _descriptions(Path(each).expanduser().resolve())),
            limit=limit,
            changes=settled,
        )


def _descriptions(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.yaml"))
    if not found:
        raise ManifestError(f"--own {path} is a folder without descriptions; put NAME.yaml into it, or name a file")
    return found
