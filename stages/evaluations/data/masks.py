"""Pictures with a mask each, in two folders beside one another.

```
DIR/images/validation/*.jpg       DIR/annotations/validation/*.png    (training/ beside: ADE20K's layout)
DIR/test/images/*.jpg             DIR/test/masks/*.png
DIR/classes.txt, objectInfo150.txt                                    names of the classes
```
A mask is a PNG of the picture's name, one number a pixel; `reading` says which of them count nowhere.
"""

from pathlib import Path

from stages.evaluations.data.folders import CLASSES
from stages.evaluations.data.places import PICTURES, SPLITS, Request, files_below, lines_of
from stages.evaluations.data.rows import FileBody, Found, Row
from stages.manifest import ManifestError

_SHOWN, _MASKS = ("images", "image"), ("masks", "annotations", "labels")
_ADE20K = "objectInfo150.txt"


def fits(request: Request) -> bool:
    """Say whether such folders lie at a place."""
    return _folders(request.place, request.split) is not None


def read(request: Request) -> Found:
    """Return a split's examples.

    Raises:
        ManifestError: A picture has no mask, or nothing names the classes.
    """
    folders = _folders(request.place, request.split)
    if folders is None:
        raise ManifestError(f"{request.place} has no {request.split} split; see `internvl benchmarks` for the layout")
    shown, masks = folders
    rows = []
    for path in files_below(shown, PICTURES):
        name = path.relative_to(shown)
        mask = masks / name.with_suffix(".png")
        if not mask.is_file():
            raise ManifestError(f"the picture {path} has no mask {mask}; fetch the masks, or remove it")
        rows.append(Row(name.as_posix(), (FileBody(path),), mask=FileBody(mask)))
    return Found(rows, _classes(request))


def _folders(place: Path, split: str) -> tuple[Path, Path] | None:
    """Return where pictures and masks of a split lie."""
    if not place.is_dir():
        return None
    for outer in (*SPLITS[split], ""):
        for shown in _SHOWN:
            for masks in _MASKS:
                for inner in ("",) if outer else (*SPLITS[split], ""):
                    found = place / outer / shown / inner, place / outer / masks / inner
                    # Without a split's name, the folders are the test split, unless they are divided further.
                    whole = bool(outer or inner) or (split == "test" and not any(
                        (found[0] / name).is_dir() for names in SPLITS.values() for name in names
                    ))  # fmt: skip
                    if whole and all(folder.is_dir() for folder in found):
                        return found
    return None


def _classes(request: Request) -> tuple[str, ...]:
    if told := [line for line in lines_of(request.place / CLASSES) if line]:
        return tuple(line.split("\t")[-1] for line in told)
    if request.benchmark.class_names:
        return request.benchmark.class_names
    if told := lines_of(request.place / _ADE20K)[1:]:
        return tuple(line.split("\t")[-1].split(",")[0].strip() for line in told)
    if request.benchmark.classes:
        return tuple(str(number) for number in range(request.benchmark.classes))
    raise ManifestError(
        f"{request.place} does not name its classes; write one per line into {request.place / CLASSES}"
    )
