"""Fetch the pictures of one source: every listed row ends in exactly one outcome.

`img2dataset` fetches, resizes and encodes the rows of a part inside one task; its own
distributors are not used. Its network access goes through our egress guard, its results
through a writer of ours: what is counted is what can be read back.
"""

import email.message
import hashlib
import io
import os
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from infra.egress import EgressError, Guard, Response, reason_in
from stages import download_report
from stages.download_watch import watched
from stages.lean import lean_package
from stages.manifest import Manifest, ManifestError, Part
from stages.outcome import Outcome, ledger_of
from stages.planted import judge_outcomes, markdown, planted_outcomes
from stages.sources.web_server import read_pictures
from stages.sources.web_site import SiteSpec
from stages.tars import tar_bytes
from stages.workspace import Output, Workspace, parquet_bytes, read_table

VERSION = 1
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
IMAGES_SCHEME = "images:///"

SCHEMA = pa.schema(
    [
        ("uid", pa.binary(16)),
        ("outcome", pa.string()),
        ("http_status", pa.int16()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
    ]
)


class Parameters(BaseModel):
    """How pictures are fetched and stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = Field(default=256, ge=16, description="Size that pictures are stored at, in pixels.")
    resize_mode: Literal["keep_ratio", "keep_ratio_largest", "center_crop", "border", "no"] = "keep_ratio"
    encode_quality: int = Field(default=95, ge=1, le=100, description="JPEG quality of stored pictures.")
    timeout_seconds: float = Field(default=10, gt=0, description="Per network read.")
    deadline_seconds: float = Field(default=20, gt=0, description="For one whole fetch.")
    retries: int = Field(default=1, ge=0, le=5, description="Further tries where trying again can help.")
    max_bytes: int = Field(default=20_000_000, ge=1, description="Largest body that is read.")
    max_pixels: int = Field(default=64_000_000, ge=1, description="Largest picture that is decoded.")
    threads: int = Field(default=16, ge=1, description="Fetches at once per task.")
    allow_hosts: tuple[str, ...] = Field(default=(), description="host:port that may be private, such as a test web.")
    images: str | None = Field(default=None, description="Folder or tar that holds the pictures already.")
    truth: SiteSpec | None = Field(default=None, description="The planted truth, where there is one.")


def inspect(body: bytes, max_pixels: int) -> str | None:
    """Return why a body must not be decoded, None where it may: only its header is read."""
    try:
        with Image.open(io.BytesIO(body), formats=FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        return "too_many_pixels"
    except Exception:
        return "not_image"
    return "too_many_pixels" if width * height > max_pixels else None


class _Collector:
    """Takes img2dataset's samples where its own writers would write files that are not whole."""

    collected: ClassVar[list[tuple[bytes | None, dict[str, Any]]]] = []

    def __init__(self, *_: Any) -> None:
        """Start empty; one shard is written at a time in a process."""
        type(self).collected = []

    def write(self, image: bytes | None, key: str, caption: str | None, meta: dict[str, Any]) -> None:
        """Keep one sample."""
        self.collected.append((image, meta))

    def close(self) -> None:
        """Do nothing: there is no file."""


def _outcome(meta: dict[str, Any], image: bytes | None) -> tuple[Outcome, int | None]:
    """Map what img2dataset says onto the closed list; its texts hold remote bytes and go no further."""
    if meta["status"] == "success" and image is not None:
        return Outcome.FETCHED, 200
    message = str(meta["error_message"])
    if found := reason_in(message):
        return Outcome(found[0]), found[1]
    if "X-Robots-Tag" in message:
        return Outcome.OPT_OUT, 200
    return (Outcome.DECODE, 200) if meta["status"] == "failed_to_resize" else (Outcome.LOST, None)


def _fetch(rows: pa.Table, parameters: Parameters, guard: Guard) -> list[tuple[bytes | None, dict[str, Any]]]:
    """Run img2dataset's downloader on the rows of one part, in this thread."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    lean_package("img2dataset")
    from img2dataset.downloader import Downloader
    from img2dataset.resizer import Resizer

    guard.install()
    with tempfile.TemporaryDirectory(prefix="internvl-download-") as folder:
        feather = Path(folder) / "rows.feather"
        table = pa.table({"url": rows["url"], "uid": [uid.hex() for uid in rows["uid"].to_pylist()]})
        with pa.OSFile(str(feather), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        downloader = Downloader(
            sample_writer_class=_Collector,
            resizer=Resizer(
                image_size=parameters.image_size,
                resize_mode=parameters.resize_mode,
                resize_only_if_bigger=False,
                encode_quality=parameters.encode_quality,
                max_image_area=parameters.max_pixels,
            ),
            thread_count=parameters.threads,
            save_caption=False,
            extract_exif=False,
            output_folder=folder,
            column_list=["url", "uid"],
            timeout=parameters.timeout_seconds,
            number_sample_per_shard=max(2, rows.num_rows),
            oom_shard_count=5,
            compute_hash=None,
            verify_hash_type=None,
            encode_format="jpg",
            retries=0,  # the guard retries, with patience and only where it helps
            user_agent_token="internvl-pipeline",
            disallowed_header_directives=["noai", "noimageai", "noindex", "noimageindex"],
        )
        downloader.download_shard((0, str(feather)))
    return list(_Collector.collected)


def download_part(item: tuple[str, str, Part], listing: Manifest, parameters: Parameters, output: Output) -> Part:
    """Fetch the rows of one listing part and publish pictures and outcomes, sorted by uid."""
    key, digest, source = item
    rows = read_table(output.store, listing, source, "rows")
    known = _already_there(parameters, rows)
    guard = Guard(
        allow=frozenset(parameters.allow_hosts),
        timeout_seconds=parameters.timeout_seconds,
        deadline_seconds=parameters.deadline_seconds,
        max_bytes=parameters.max_bytes,
        retries=parameters.retries,
        inspect=partial(inspect, max_pixels=parameters.max_pixels),
    )
    if known is not None:
        guard = _Shelf(known, guard)
    found = {meta["uid"]: (image, meta) for image, meta in _fetch(rows, parameters, guard)} if rows.num_rows else {}
    captions = dict(zip((u.hex() for u in rows["uid"].to_pylist()), rows["caption"].to_pylist(), strict=True))
    outcomes, samples = [], []
    for uid in sorted(captions):
        image, meta = found.get(uid, (None, {"status": "lost", "error_message": ""}))
        outcome, status = _outcome(meta, image)
        fetched = outcome is Outcome.FETCHED and image is not None
        if fetched:
            samples.append((uid, {"jpg": image, "txt": captions[uid].encode("utf-8", "replace")}))
        outcomes.append(
            {
                "uid": bytes.fromhex(uid),
                "outcome": str(outcome),
                "http_status": status,
                "width": meta.get("width") if fetched else None,
                "height": meta.get("height") if fetched else None,
                "original_width": meta.get("original_width") if fetched else None,
                "original_height": meta.get("original_height") if fetched else None,
                "bytes": len(image) if fetched and image else None,
                "sha256": hashlib.sha256(image).hexdigest() if fetched and image else None,
            }
        )
    counts = Counter(str(row["outcome"]) for row in outcomes)
    return output.part(
        key,
        digest,
        ledger_of(counts),
        {
            "outcomes": (f"{key}.parquet", parquet_bytes(pa.Table.from_pylist(outcomes, schema=SCHEMA))),
            "pictures": (f"{key}.tar", tar_bytes(samples)),
        },
        facts={"outcomes": dict(sorted(counts.items()))},
    )


class _Shelf(Guard):
    """Hands out pictures that are already here; asks the network for nothing."""

    def __init__(self, pictures: dict[str, bytes], like: Guard) -> None:
        """Take the limits of another guard."""
        super().__init__(inspect=like.inspect, max_bytes=like.max_bytes)
        self._pictures = pictures

    def open(self, request: Any, data: Any = None, timeout: Any = None) -> Any:
        """Return a picture by its `images:///` address."""
        url = request.full_url if hasattr(request, "full_url") else str(request)
        body = self._pictures.get(url)
        if body is None:
            raise EgressError("not_found")
        if self.inspect and (refusal := self.inspect(body)):
            raise EgressError(refusal)
        return Response(body, email.message.Message())


def _already_there(parameters: Parameters, rows: pa.Table) -> dict[str, bytes] | None:
    if parameters.images is None:
        return None
    wanted = set(rows["url"].to_pylist())
    return {
        IMAGES_SCHEME + name: data
        for name, data, _ in read_pictures(Path(parameters.images))
        if IMAGES_SCHEME + name in wanted
    }


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Download all parts of a listing."""
    listing = here.input("listing")
    work = partial(download_part, listing=listing, parameters=parameters, output=output)
    items = [
        (part.key, part.files["rows"].sha256, (part.key, part.files["rows"].sha256, part)) for part in listing.parts
    ]
    parts = watched(here, output).map_parts(output, work, items)
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.facts["outcomes"])
    totals: dict[str, Any] = {"outcomes": dict(sorted(counts.items()))}
    if not counts[Outcome.FETCHED]:
        raise ManifestError(_nothing_fetched(listing, counts))
    if parameters.truth:
        seen: dict[bytes, str] = {}
        for part in parts:
            table = pq.read_table(io.BytesIO(output.store.read(output.ref.key(part.files["outcomes"].name))))
            seen.update(zip(table["uid"].to_pylist(), table["outcome"].to_pylist(), strict=True))
        source = listing.ref.name.rpartition("/")[2]
        totals["planted"] = judge_outcomes(planted_outcomes(parameters.truth, source), seen)
        totals["markdown"] = markdown(totals["planted"])
    told, pages = download_report.report(listing, parts, totals, output, here)
    return output.commit(parts, totals=told, reports=pages)


_ADVICE = {
    Outcome.REFUSED_ADDRESS: "only public addresses are fetched: allow a server of yours with --allow-host HOST:PORT",
    Outcome.REFUSED_SCHEME: "only http and https are fetched: pictures on this machine come in with --images",
    Outcome.DNS: "check the network of the workers, and that the url column holds addresses",
    Outcome.CONNECT: "check that the servers are up and reachable from the workers",
    Outcome.TIMEOUT: "raise download.timeout_seconds, or lower download.threads",
    Outcome.NOT_IMAGE: "check that the url column points at pictures, not at pages",
    Outcome.BAD_URL: "check that the url column holds addresses: --url-column",
}


def _nothing_fetched(listing: Manifest, counts: Counter[str]) -> str:
    worst, rows = counts.most_common(1)[0] if counts else ("", 0)
    advice = _ADVICE.get(Outcome(worst), "look at the outcomes of its parts") if worst else "list rows first"
    return (
        f"none of the {sum(counts.values())} rows of {listing.ref} gave a picture; "
        f"{rows} ended as {worst!r}: {advice}; then run again with --force"
    )
