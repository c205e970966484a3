"""Every hostile picture through the shard worker: right colours and size, or the outcome it deserves, cheaply."""

import io
import resource
import time

import numpy as np
import pytest
from hostile_pictures import PICTURES, REFUSED, TRUTH
from PIL import Image

from stages.blocking import BlockList
from stages.fetchers import Shelf
from stages.fetching import Answer, Storing, fetch_shard
from stages.outcome import Outcome

LIMIT = 64_000_000


def stored(path: str, mode: str) -> Answer:
    answer = Answer(path)
    storing = Storing(image_size=48, resize_mode=mode, threads=1)
    fetch_shard([answer], Shelf({path: PICTURES[path]()}, LIMIT), storing, BlockList())
    return answer


@pytest.mark.parametrize("mode", ["no", "keep_ratio"])
@pytest.mark.parametrize("path", sorted(TRUTH))
def test_pictures_that_decoders_get_wrong_are_right(path: str, mode: str) -> None:
    answer, truth = stored(path, mode), TRUTH[path]
    assert answer.outcome == Outcome.FETCHED and answer.image is not None
    assert (answer.original_width, answer.original_height) == truth.size
    image = Image.open(io.BytesIO(answer.image))
    pixels = np.asarray(image.convert("RGB")).astype(int)
    for (x, y), colour in truth.points.items():
        at = min(int(y * image.height), image.height - 1), min(int(x * image.width), image.width - 1)
        assert np.abs(pixels[at] - colour).max() <= 5, (path, x, y, pixels[at], colour)
    assert len(image.getexif()) == 0 and not set(image.info) - {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    for word in (b"<script", b"GPS", b"html", b"PK\x03\x04"):
        assert word not in answer.image


@pytest.mark.parametrize("path", sorted(REFUSED))
def test_bodies_that_kill_decoders_are_refused_cheaply(path: str) -> None:
    body = PICTURES[path]()
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    answer = Answer(path)
    fetch_shard([answer], Shelf({path: body}, LIMIT), Storing(image_size=48, threads=1), BlockList())
    assert answer.outcome == REFUSED[path] and answer.image is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64_000
    assert time.process_time() - started < 2
