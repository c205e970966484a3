"""The two downloaders of the benchmark, each in a process of its own that does one run and says what it stored."""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

THREADS = 32
TIMEOUT_SECONDS, DEADLINE_SECONDS = 3.0, 4.0


class Run(NamedTuple):
    """One run of one client."""

    stored: int
    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int
    """Of its largest process."""


def measured(client: str, urls: list[str], folder: Path, trusted: Path, image_size: int) -> Run:
    """Run a client on a list of addresses in a new process; count its CPU time with all of its children's.

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
    started = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{client} ended with {process.returncode}: {log.read_text()[-2000:]}")
    stored = json.loads((folder / "stored.json").read_text())
    return Run(stored, usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss * 1024)


def ours(folder: Path, image_size: int) -> int:
    """Run the stages list_urls and download in this process."""
    from infra.cluster import InlineCluster
    from infra.storage import Store
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
    spec = StageSpec(
        stage="download", artifact=Ref(name="pool/web", **version), parameters=parameters, inputs=(rows,)
    )
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
