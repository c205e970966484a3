"""One's own instruction data as conversations: each planned row checked, its pictures read, its video sampled."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from infra.storage import Store
from stages.batches import generator_of
from stages.chat_template import IMAGE, VIDEO
from stages.conversation_pictures import Place, Root, size_of
from stages.conversation_plan import Planned
from stages.conversation_rows import Row, RowError, check, shaped
from stages.conversation_shards import Bad, Made, write_part
from stages.conversation_sources import OwnConversations
from stages.frame_policy import FramePolicy
from stages.held_out import VIDEO_SHA256
from stages.manifest import File, ManifestError, Part
from stages.videos import VideoError
from stages.workspace import Output

Size = tuple[int, int]


@dataclass(frozen=True)
class Showing:
    """How pictures and videos are taken in."""

    max_pixels: int
    frames: FramePolicy
    seed: int


def own_part(item: tuple[str, File], source: OwnConversations, showing: Showing, output: Output) -> Part:
    """Make one shard of a planned piece.

    Raises:
        ManifestError: The plan is damaged; or a row is bad and the source's policy is `fail`.
    """
    key, file = item
    data = output.store.read(output.ref.key(file.name))
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise ManifestError(f"{output.ref.key(file.name)} is damaged; run stage {output.stage} again with --force")
    planned = [json.loads(line) for line in data.splitlines()]
    return write_part(key, file.sha256, made_rows(planned, source, showing, output.store), output)


def made_rows(
    planned: Sequence[Planned], source: OwnConversations, showing: Showing, store: Store
) -> Iterator[Made | Bad]:
    """Yield each planned row as a conversation, or with the reason why it is none.

    Raises:
        ManifestError: A row is bad and the source's policy is `fail`.
    """
    root = Root(source.pictures, store)
    for row in planned:
        try:
            if "problem" in row:
                raise RowError(*row["problem"])
            yield _made(row, source, showing, root)
        except RowError as error:
            bad = Bad(source.path, row["where"], error.reason, error.what)
            if source.on_bad_row == "fail":
                raise ManifestError(f"{bad}; mend the row, or let on_bad_row be drop") from error
            yield bad


def _made(planned: Planned, source: OwnConversations, showing: Showing, root: Root) -> Made:
    given = planned["given"]
    row = shaped(_without_pictures(given) if source.text_only else given)
    check(row.told, len(row.pictures))
    places = {name: Place(*place) for name, place in planned.get("places", {}).items() if place}
    pictures, sizes = _shown(row, root, places, showing, planned["uid"])
    told = {
        "id": _text(given.get("id", planned["where"])),
        "source": _text(given.get("source") or source.name),
        "language": _text(said) if (said := given.get("language") or source.language) else None,
        **row.told,
        **_sizes(sizes, row.video),
    }
    if pictures and source.max_dynamic_patch:
        told["max_dynamic_patch"] = source.max_dynamic_patch
    if pictures and source.data_augment:
        told["data_augment"] = True
    if row.video:
        told[VIDEO_SHA256] = _digest_of_video(row, root, places)
    return Made(planned["uid"], told, pictures)


def _text(given: Any) -> str:
    """Return a name as text that can be written as UTF-8."""
    return str(given).encode("utf-8", "backslashreplace").decode()


def _without_pictures(given: Any) -> Any:
    """Return a row as text alone."""
    if not isinstance(given, dict):
        return given
    row = {name: value for name, value in given.items() if name not in ("image", "video", "clip")}
    if isinstance(turns := row.get("conversations"), list):
        row["conversations"] = [_plain(turn) for turn in turns]
    return row


def _plain(turn: Any) -> Any:
    if not isinstance(turn, dict) or not isinstance(said := turn.get("value"), str):
        return turn
    for mark in (IMAGE, VIDEO):
        said = said.replace(f"{mark}\n", "").replace(f"\n{mark}", "").replace(mark, "")
    return {**turn, "value": said}


def _sizes(sizes: Sequence[Size], video: bool) -> dict[str, Any]:
    """Return `width` and `height`: numbers of a single picture, lists of several and of a video's frames."""
    if not sizes:
        return {}
    if len(sizes) == 1 and not video:
        return {"width": sizes[0][0], "height": sizes[0][1]}
    return {"width": [size[0] for size in sizes], "height": [size[1] for size in sizes]}


def _shown(
    row: Row, root: Root, places: dict[str, Place], showing: Showing, uid: str
) -> tuple[list[bytes], list[Size]]:
    """Return the pictures of a row, or the frames of its video, with their sizes."""
    if row.video:
        pictures = _frames(row, root, places, showing, uid)
        names = [f"frame {number} of {row.pictures[0]}" for number in range(1, len(pictures) + 1)]
    else:
        pictures, names = [root.read(name, places.get(name)) for name in row.pictures], row.pictures
    return pictures, [size_of(body, showing.max_pixels, name) for body, name in zip(pictures, names, strict=True)]


def _digest_of_video(row: Row, root: Root, places: dict[str, Place]) -> str:
    """Return what a row's video is told by, whatever is shown of it: a file by its bytes, a folder by all frames."""
    (name,) = row.pictures
    if not name.endswith("/"):
        return hashlib.sha256(root.read(name, places.get(name))).hexdigest()
    frames = (hashlib.sha256(root.read(each)).digest() for each in root.frames(name))
    return hashlib.sha256(b"".join(frames)).hexdigest()


def _frames(row: Row, root: Root, places: dict[str, Place], showing: Showing, uid: str) -> list[bytes]:
    """Return the frames of a row's video that are shown: the same for a row whatever else there is."""
    (name,) = row.pictures
    draws = generator_of(showing.seed, "frames", uid)
    try:
        if name.endswith("/"):
            return [root.read(each) for each in showing.frames.of_pictures(root.frames(name), draws)]
        return showing.frames.of_video(root.read(name, places.get(name)), draws, row.clip)
    except VideoError as error:
        raise RowError("video", f"{name}: {error}") from error
