"""Objects in an S3 bucket: every call is asked again for a bounded time, and what is read is whole.

The client is s3fs, without its convenience: its `isfile` calls an outage "no such file", and its
`open(..., "wb")` publishes a truncated object when the block raises.
"""

import hashlib
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

from fsspec.asyn import sync

from infra.s3_client import ShortBody, client, patiently
from infra.store_entries import Entry, StorageError

WHOLE_BYTES = 32 << 20
"""Objects up to this size are read in one request; larger ones in ranges, side by side."""
PIECE_BYTES = 16 << 20
"""Size of one piece of a multipart upload, where 10,000 of them are enough."""
COPIED_BYTES = 5 << 30
"""Objects up to this size are copied in one request; larger ones in pieces."""
DELETED_AT_ONCE = 1000


class Bucket:
    """The objects of one bucket below a prefix."""

    def __init__(self, name: str) -> None:
        """Bind to a bucket; the connection is made at the first call."""
        self.name = name

    def _call(self, what: str, method: str, **arguments: Any) -> dict[str, Any]:
        return cast(
            dict[str, Any],
            patiently(self.name, what, lambda: client().call_s3(method, Bucket=self.name, **arguments)),
        )

    def head(self, key: str) -> Entry:
        """Return size and time of an object.

        Raises:
            FileNotFoundError: There is none.
        """
        reply = self._call(f"describe {key}", "head_object", Key=key)
        return Entry(key, int(reply["ContentLength"]), reply["LastModified"].timestamp())

    def read(self, key: str) -> bytes:
        """Return the bytes of an object; a body that ends early is read again.

        Raises:
            FileNotFoundError: There is none.
        """

        async def ask(asked: Any) -> bytes:
            reply = await asked._call_s3("get_object", Bucket=self.name, Key=key)
            length = int(reply["ContentLength"])
            try:
                data = b"" if length > WHOLE_BYTES else bytes(await reply["Body"].read())
            finally:
                reply["Body"].close()
            if length > WHOLE_BYTES:
                data = bytes(await asked._cat_file(f"{self.name}/{key}"))
            if len(data) != length:
                raise ShortBody(f"{len(data)} of {length} bytes came")
            return data

        def once() -> bytes:
            asked = client()
            return cast(bytes, sync(asked.loop, ask, asked))

        return patiently(self.name, f"give {key}", once)

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Return the bytes of an object from `start` up to `stop`, fewer where it ends before."""

        def once() -> bytes:
            data = bytes(client().cat_file(f"{self.name}/{key}", start=start, end=stop))
            if len(data) < stop - start and start + len(data) < self.head(key).bytes:
                raise ShortBody(f"{len(data)} of {stop - start} bytes came")
            return data

        return patiently(self.name, f"give {key}", once)

    def download(self, key: str, target: Path) -> None:
        """Copy an object into a local file, whole."""
        wanted = self.head(key).bytes

        def once() -> None:
            client().get_file(f"{self.name}/{key}", str(target))
            if target.stat().st_size != wanted:
                raise ShortBody(f"{target.stat().st_size} of {wanted} bytes came")

        patiently(self.name, f"give {key}", once)

    def open(self, key: str) -> BinaryIO:
        """Open an object for reading, with seek; ranges are fetched as they are needed."""
        return patiently(
            self.name,
            f"open {key}",
            lambda: cast(BinaryIO, client().open(f"{self.name}/{key}", "rb", fill_cache=False)),
        )

    def sha256(self, key: str) -> str:
        """Return the hexadecimal SHA-256 of an object, read in ranges."""
        wanted = self.head(key).bytes

        def once() -> str:
            digest, read = hashlib.sha256(), 0
            with client().open(f"{self.name}/{key}", "rb", block_size=WHOLE_BYTES, cache_type="readahead") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
                    read += len(block)
            if read != wanted:
                raise ShortBody(f"{read} of {wanted} bytes came")
            return digest.hexdigest()

        return patiently(self.name, f"give {key}", once)

    def write(self, key: str, data: bytes | Path, exclusive: bool = False) -> None:
        """Write an object: one PUT or one completed multipart upload, so a reader never sees half of it.

        Raises:
            FileExistsError: It is there already and the write is exclusive.
        """
        mode = "create" if exclusive else "overwrite"
        path = f"{self.name}/{key}"

        def once() -> None:
            if isinstance(data, Path):
                piece = max(PIECE_BYTES, data.stat().st_size // 9000)
                client().put_file(str(data), path, mode=mode, chunksize=piece)
            else:
                client().pipe_file(path, data, mode=mode, chunksize=PIECE_BYTES)

        patiently(self.name, f"take {key}", once)

    def touch(self, key: str) -> None:
        """Make an object as young as if it were written now, by a copy onto itself inside the store."""
        if (size := self.head(key).bytes) <= COPIED_BYTES:
            source = {"Bucket": self.name, "Key": key}
            self._call(f"renew {key}", "copy_object", Key=key, CopySource=source, MetadataDirective="REPLACE")
            return

        async def ask(asked: Any) -> None:
            path = f"{self.name}/{key}"
            await asked._copy_managed(path, path, size, block=1 << 30)

        def once() -> None:
            asked = client()
            sync(asked.loop, ask, asked)

        patiently(self.name, f"renew {key}", once)

    def objects(self, prefix: str) -> Iterator[Entry]:
        """Yield all objects whose key begins so, in the order of their keys, a page of the listing at a time."""
        for page in self._pages("list_objects_v2", prefix):
            for each in page.get("Contents", ()):
                yield Entry(each["Key"], int(each["Size"]), each["LastModified"].timestamp())

    def folders(self, prefix: str) -> set[str]:
        """Return the names directly below a prefix that others lie below."""
        return {
            each["Prefix"].removeprefix(prefix).rstrip("/")
            for page in self._pages("list_objects_v2", prefix, Delimiter="/")
            for each in page.get("CommonPrefixes", ())
        }

    def uploads(self, prefix: str) -> Iterator[Entry]:
        """Yield the multipart uploads below a prefix that were never completed: invisible, and billed."""
        marker: dict[str, str] = {}
        while True:
            page = self._call("list uploads", "list_multipart_uploads", Prefix=prefix, **marker)
            for each in page.get("Uploads") or ():
                size = self._uploaded(each["Key"], each["UploadId"])
                yield Entry(each["Key"], size, each["Initiated"].timestamp(), each["UploadId"])
            if not page.get("IsTruncated"):
                return
            marker = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def _uploaded(self, key: str, upload: str) -> int:
        """Return how many bytes of an upload arrived, of its first thousand pieces."""
        try:
            reply = self._call("list pieces", "list_parts", Key=key, UploadId=upload)
        except FileNotFoundError:
            return 0  # ended while we looked
        return sum(int(piece["Size"]) for piece in reply.get("Parts") or ())

    def abort(self, key: str, upload: str) -> None:
        """Drop an upload that was never completed; one that ended meanwhile is fine."""
        try:
            self._call("abort an upload", "abort_multipart_upload", Key=key, UploadId=upload)
        except FileNotFoundError:
            return

    def remove(self, keys: list[str]) -> None:
        """Remove objects; one that is not there is fine.

        Raises:
            StorageError: The store kept one.
        """
        for first in range(0, len(keys), DELETED_AT_ONCE):
            objects = [{"Key": key} for key in keys[first : first + DELETED_AT_ONCE]]
            reply = self._call("delete", "delete_objects", Delete={"Objects": objects, "Quiet": True})
            if errors := reply.get("Errors"):
                one = errors[0]
                raise StorageError(
                    f"s3://{self.name}/{one['Key']} was not deleted: {one.get('Message', one['Code'])}"
                )

    def now(self) -> float:
        """Return the store's own time: its objects are dated by this clock, which may not be ours."""
        reply = self._call("tell the time", "head_bucket")
        return parsedate_to_datetime(reply["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()

    def _pages(self, method: str, prefix: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            page = self._call(f"list {prefix}", method, Prefix=prefix, **arguments, **token)
            yield page
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}
