"""A thousand servers that take their time, all at once."""

import json
import subprocess
import sys
from pathlib import Path

from hostile_web import HostileWeb

CLIENT = """
import json, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from infra.egress import Guard
endpoint = sys.argv[1]
threading.stack_size(256 * 1024)
guard = Guard({endpoint}, per_host=1_000, fetches_at_once=1_000)
started = time.monotonic()
with ThreadPoolExecutor(1_000) as pool:
    sizes = list(pool.map(lambda i: len(guard.fetch(f"http://{endpoint}/slow/honest/{i}").body), range(1_000)))
print(json.dumps({
    "whole": sum(size > 0 for size in sizes),
    "seconds": time.monotonic() - started,
    # Not ru_maxrss: that begins with the size of the process that started this one.
    "megabytes": int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) / 1024,
}))
"""


def test_a_thousand_slow_answers_at_once(tmp_path: Path) -> None:
    """Each comes after 1.5 s; all of them come, in under 10 s and 600 MB."""
    with HostileWeb(tmp_path, tls=False) as web:
        client = subprocess.run(
            [sys.executable, "-c", CLIENT, web.endpoint], capture_output=True, text=True, check=True
        )
        found = json.loads(client.stdout)
        assert found["whole"] == 1_000 and len(web.hits) == 1_000
        assert web.most_open >= 500, "they were waited for together"
    assert found["seconds"] < 10 and found["megabytes"] < 600
