"""Pictures with captions in a list beside them.

```
DIR/dataset_coco.json                 Karpathy's splits: images[] with split, filename, sentences[].raw
DIR/annotations/captions_val.json     COCO's form (also NoCaps, COCO-CN): images[] and annotations[]
DIR/test.json                         [{"image": ..., "caption": ... or [...]}, ...]
DIR/test.csv                          image,caption     one line per caption
DIR/test_image_names.txt              XTD: one picture a line, and test_1kcaptions_<language>.txt beside
DIR/**                                the pictures, in any folders below
```
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.evaluations.data.places import SPLITS, Pictures, Request, lines_of, of_split, read_json
from stages.evaluations.data.rows import FileBody, Found, Row
from stages.manifest import ManifestError

XTD_PICTURES, XTD_CAPTIONS = "test_image_names.txt", "test_1kcaptions_{}.txt"
_LISTS = (".json", ".jsonl", ".csv", ".tsv", ".txt")
_NOT_LISTS = ("readme", "license", "licence", "classes", "requirements")
_ALSO_CALLED = {"ja": ("ja", "jp"), "zh": ("zh", "cn")}


def fits(request: Request) -> bool:
    """Say whether a list lies at a place."""
    return bool(lists_at(request.place))


def read(request: Request) -> Found:
    """Return a split's examples.

    Raises:
        ManifestError: No list, or more than one, may be meant; or it has another form.
    """
    if request.place.is_dir() and (request.place / XTD_PICTURES).is_file():
        return Found(_rows(_of_xtd(request), Pictures(request.place)))
    path = the_list(request)
    as_json = path.suffix in (".json", ".jsonl")
    told = _of_json(read_json(path), path, request.split) if as_json else _of_lines(path)
    if not told:
        raise ManifestError(f"{path} has no picture of the split {request.split}; name the list of another split")
    return Found(_rows(told, Pictures(picture_place(path))))


def lists_at(place: Path) -> list[Path]:
    """Return the files that may list a dataset: the place itself, or those in it and in its `annotations/`."""
    if place.is_file():
        return [place] if place.suffix in _LISTS else []
    folders = [folder for folder in (place, place / "annotations") if folder.is_dir()]
    return [
        path
        for folder in folders
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix in _LISTS and not path.name.lower().startswith((".", *_NOT_LISTS))
    ]


def the_list(request: Request) -> Path:
    """Return the list of a split and language.

    Raises:
        ManifestError: None, or more than one, may be meant.
    """
    found = lists_at(request.place)
    if len(found) > 1:
        languages = _ALSO_CALLED.get(request.language, (request.language,))
        found = with_word(found, languages) or found
    if len(found) > 1:
        for word in SPLITS[request.split]:
            if chosen := with_word(found, [word]):
                found = chosen
                break
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:6]) or "none"
        raise ManifestError(
            f"{request.place} has to have one list for split {request.split}, language {request.language}; found "
            f"{names}: keep one, or name it: --at {request.benchmark.name}=PATH/TO/LIST"
        )
    return found[0]


def picture_place(path: Path) -> Path:
    """Return the folder below which the pictures of a list are looked for."""
    return path.parent.parent if path.parent.name == "annotations" else path.parent


def with_word(found: Sequence[Path], words: Sequence[str]) -> list[Path]:
    """Return the files whose name has one of these words as a word of its own: `test`, `captions-val2014`."""

    def spoken(path: Path) -> set[str]:
        pieces = path.stem.lower().replace("-", "_").replace(".", "_").split("_")
        return set(pieces) | {piece.rstrip("0123456789") for piece in pieces}

    return [path for path in found if spoken(path) & set(words)]


def _of_xtd(request: Request) -> dict[str, list[str]]:
    place = request.place
    names = lines_of(place / XTD_PICTURES)
    called = _ALSO_CALLED.get(request.language, (request.language,))
    for language in called:
        if (path := place / XTD_CAPTIONS.format(language)).is_file():
            captions = lines_of(path)
            break
    else:
        wanted = XTD_CAPTIONS.format(called[-1])
        raise ManifestError(f"{place} has no captions in {request.language}; put XTD's {wanted} beside the names")
    if len(names) != len(captions):
        raise ManifestError(f"{path} has {len(captions)} captions for {len(names)} pictures; fetch it again")
    return {name: [caption] for name, caption in zip(names, captions, strict=True)}


def _of_json(told: Any, path: Path, split: str) -> dict[str, list[str]]:
    images = told.get("images") if isinstance(told, dict) else told
    try:
        if not isinstance(images, list):
            raise TypeError("no list of images")
        if isinstance(told, dict) and "annotations" in told:
            return _of_coco(images, told["annotations"])
        if images and "sentences" in images[0]:
            return _of_karpathy(images, split)
        return _of_pairs(images)
    except (KeyError, TypeError, AttributeError) as error:
        raise ManifestError(
            f"{path} has none of the known forms ({type(error).__name__}: {error}): Karpathy's, COCO's, or a list of "
            '{"image": ..., "caption": ...}'
        ) from None


def _of_karpathy(images: Sequence[Mapping[str, Any]], split: str) -> dict[str, list[str]]:
    exact = [each for each in images if each["split"] == split]
    chosen = exact or [each for each in images if of_split(each["split"], split)]
    if split == "train":
        chosen = [each for each in images if each["split"] in ("train", "restval")]
    return {
        f"{each['filepath']}/{each['filename']}" if each.get("filepath") else str(each["filename"]): [
            str(sentence["raw"]).strip() for sentence in each["sentences"]
        ]
        for each in chosen
    }


def _of_coco(images: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    names = {each["id"]: str(each["file_name"]) for each in images}
    out: dict[str, list[str]] = {name: [] for name in names.values()}
    for each in annotations:
        out[names[each["image_id"]]].append(str(each["caption"]).strip())
    return {name: captions for name, captions in out.items() if captions}


def _of_pairs(pairs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for each in pairs:
        said = each["caption"]
        out.setdefault(str(each["image"]), []).extend(map(str, said) if isinstance(said, list) else [str(said)])
    return out


def _of_lines(path: Path) -> dict[str, list[str]]:
    """Return what `image,caption` lines say; a caption may hold commas, as the lists in use do."""
    lines = lines_of(path)
    mark = "\t" if lines and "\t" in lines[0] else ","
    if not lines or lines[0].replace('"', "").lower().split(mark)[:2] != ["image", "caption"]:
        raise ManifestError(f"{path} does not begin with image{mark}caption; give it this header")
    out: dict[str, list[str]] = {}
    for number, line in enumerate(lines[1:], 2):
        name, found, caption = line.partition(mark)
        if not found or not caption.strip():
            raise ManifestError(f"line {number} of {path} has no caption; write image{mark}caption")
        out.setdefault(_bare(name), []).append(_bare(caption))
    return out


def _bare(cell: str) -> str:
    cell = cell.strip()
    return cell[1:-1].replace('""', '"') if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def _rows(told: Mapping[str, Sequence[str]], pictures: Pictures) -> list[Row]:
    return [Row(name, (FileBody(pictures.find(name)),), captions=tuple(said)) for name, said in told.items()]
