"""The two downloaders of the benchmark, each in a process of its own that does one run and says what it stored."""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

THREADS = 32
TIMEOUT_SECONDS, DEADLINE_SECONDS = 3.0, 4.0


class Run(NamedTuple):
    """One run of one client."""

    stored: int
    cpu_seconds: float
    """Of the process that fetches and stores, from the first row to the last: what importing costs is left out."""
    wall_seconds: float
    """Likewise."""
    peak_bytes: int
    """Of its largest process."""


def measured(client: str, urls: list[str], folder: Path, trusted: Path, image_size: int) -> Run:
    """Run a client on a list of addresses in a new process.

    Raises:
        RuntimeError: It failed; the message holds what it said last.
    """
    folder.mkdir(parents=True)
    table = pa.table({"url": urls, "caption": [f"Picture number {number}." for number in range(len(urls))]})
    pq.write_table(table, folder / "list.parquet")
    log = folder / "log.txt"
    command = [sys.executable, "-m", "benchmarks.download_clients", client, str(folder), str(image_size)]
    environment = {
        **os.environ,
        "SSL_CERT_FILE": str(trusted),
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "OMP_NUM_THREADS": "1",
    }
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{client} ended with {process.returncode}: {log.read_text()[-2000:]}")
    costs = [json.loads(path.read_text()) for path in folder.glob("cost-*.json")]
    return Run(
        json.loads((folder / "stored.json").read_text()),
        sum(cpu for cpu, _ in costs),
        sum(wall for _, wall in costs),
        usage.ru_maxrss * 1024,
    )


@contextmanager
def counted(path: Path) -> Iterator[None]:
    """Write what the block costs this process: CPU-seconds of all its threads, and seconds."""
    cpu, wall = time.process_time(), time.monotonic()
    yield
    path.write_text(json.dumps([time.process_time() - cpu, time.monotonic() - wall]))


def ours(folder: Path, image_size: int) -> int:
    """Run the stages list_urls and download in this process."""
    from infra.cluster import InlineCluster
    from infra.storage import Store
    from stages.blocking import BlockList
    from stages.fetchers import Shelf
    from stages.fetching import Answer, Storing, fetch_shard
    from stages.materialize import StageSpec, materialize
    from stages.ref import Ref

    store, version = Store(str(folder / "store")), {"version": "v1"}
    given = {"source": "web", "paths": [str(folder / "list.parquet")], "rows_per_part": 10_000}
    rows = Ref(name="listing/web", **version)
    materialize(StageSpec(stage="list_urls", artifact=rows, parameters=given), store, InlineCluster())
    urls = pq.read_table(folder / "list.parquet")["url"].to_pylist()
    parameters = {
        "image_size": image_size,
        "threads": THREADS,
        "timeout_seconds": TIMEOUT_SECONDS,
        "deadline_seconds": DEADLINE_SECONDS,
        "retries": 1,
        "respect_robots": False,
        "allow_hosts": sorted({urlsplit(url).netloc for url in urls}),
    }
    # One row fetched beforehand imports everything.
    fetch_shard([Answer("none")], Shelf({}, 1), Storing(), BlockList())
    spec = StageSpec(
        stage="download", artifact=Ref(name="pool/web", **version), parameters=parameters, inputs=(rows,)
    )
    with counted(folder / "cost-0.json"):
        return materialize(spec, store, InlineCluster()).ledger.kept


def img2dataset(folder: Path, image_size: int) -> int:
    """Run plain img2dataset: one process, the same threads, sizes and time-outs."""
    from img2dataset import download

    download(
        url_list=str(folder / "list.parquet"),
        input_format="parquet",
        url_col="url",
        caption_col="caption",
        output_folder=str(folder / "out"),
        output_format="webdataset",
        processes_count=1,
        thread_count=THREADS,
        image_size=image_size,
        resize_mode="keep_ratio",
        encode_quality=95,
        timeout=TIMEOUT_SECONDS,
        retries=1,
        extract_exif=False,
    )
    # What can be read back, not what its counters say.
    tables = [pq.read_table(io.BytesIO(path.read_bytes())) for path in (folder / "out").glob("*.parquet")]
    return sum(pa.compute.equal(table["status"], "success").to_pylist().count(True) for table in tables)


def count_shards() -> None:
    """Let img2dataset's worker write what each of its shards costs; it is otherwise as it is."""
    from img2dataset.downloader import Downloader

    plain = Downloader.download_shard

    def download_shard(self: Any, row: tuple[int, str]) -> None:
        with counted(Path(self.output_folder).parent / f"cost-{row[0]}.json"):
            plain(self, row)

    Downloader.download_shard = download_shard


CLIENTS = {"img2dataset": img2dataset, "ours": ours}


def main(arguments: list[str] | None = None) -> None:
    """Do one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client", choices=sorted(CLIENTS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("image_size", type=int)
    given = parser.parse_args(arguments)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    (given.folder / "stored.json").write_text(json.dumps(CLIENTS[given.client](given.folder, given.image_size)))


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":
    # img2dataset's worker is spawned and imports this module under that name.
    count_shards()
