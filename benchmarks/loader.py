"""How fast samples come out of shards beside `webdataset`, and how long training waits for them.

Everything is told in CPU seconds or as a share of a step: wall time would measure the neighbours.
"""

import io
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset
from PIL import Image

from benchmarks.timing import interleaved, publish, ratio_of_medians, surroundings
from infra.storage import Store
from models.config import VisionConfig
from models.intern_vit import InternVisionModel
from stages.batches import ShardedSamples
from stages.manifest import Ledger, Manifest
from stages.pairs import Box, Captions, Pictures, Pixels, normalise, resize, scaled_decode
from stages.ref import Ref
from stages.tars import tar_bytes
from stages.training.order import Order, Source
from stages.training.task import SampleFacts
from stages.training.workers import Maker, made_in_order
from stages.workspace import Output

RESULT = Path(__file__).parent / "results" / "loader.json"
GOALS = {"webdataset / ours": 1.0}
PAIRS = (*GOALS, "webdataset / ours, full decode")
"""webdataset decodes all of a picture; the second line is without what our decode at a smaller scale gains."""
IMAGE_SIZE, BATCH, STEPS = 64, 16, 24
PICTURES = "INTERNVL_BENCHMARK_PICTURES"
"""Names a folder of tars with real photographs as `.jpg`; `make_shards` packs them anew, as shards of ours."""


def photographs(folder: Path, most: int) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield up to `most` samples of the tars in a folder, a third of them at most from one, under keys of ours."""
    number, paths = 0, sorted(folder.glob("*photos.tar"))
    for path in paths:
        stop = min(most, number + (most // 3 if len(paths) > 2 else most))
        with tarfile.open(path) as tar:
            for info in tar:
                if not (info.isfile() and info.name.endswith(".jpg")) or number == stop:
                    continue
                picture = tar.extractfile(info)
                assert picture is not None
                words = f"photograph {number}"
                facts = f'{{"uid": "{number:032x}", "source": "photographs", "language": "en"}}'
                yield f"{number:032x}", {"jpg": picture.read(), "txt": words.encode(), "json": facts.encode()}
                number += 1


def make_shards(store: Store, samples: Sequence[tuple[str, dict[str, bytes]]], rows: int = 64) -> Manifest:
    """Publish samples as shards."""
    output = Output(store, Ref(name="shards/clean", version="bench"), "write_shards", {})
    parts = []
    for number, start in enumerate(range(0, len(samples), rows)):
        piece = samples[start : start + rows]
        files: dict[str, tuple[str, bytes | Path]] = {"tar": (f"{number:06d}.tar", tar_bytes(piece))}
        parts.append(output.part(f"{number:06d}", "", Ledger(listed=len(piece), kept=len(piece)), files))
    return output.commit(parts)


class FullyDecoded(Pictures):
    """Pictures of which every pixel is decoded, as webdataset's are here."""

    def read(self, row: int, box: Box | None = None) -> Pixels:
        """Return one picture as pixels."""
        with Image.open(io.BytesIO(self.samples.read(row, "jpg"))) as picture:
            return resize(picture, self.image_size, box)


class Batches:
    """Pictures and captions, as the contrastive stage reads them; nothing is kept decoded, as with real data sets."""

    def __init__(self, samples: ShardedSamples, kind: type[Pictures] = Pictures) -> None:
        self.pictures, self.captions = kind(samples, IMAGE_SIZE, decoded_bytes=0), Captions(samples)
        self.samples = samples

    def __call__(self, rows: Sequence[int], step: int) -> dict[str, Any]:
        return {"pixel_values": self.pictures.batch(rows), "captions": self.captions.read(rows)}

    def facts(self, row: int) -> SampleFacts:
        return SampleFacts.of(self.samples, row)


def readers(store: Store, shards: Manifest, folder: Path) -> dict[str, Callable[[], int]]:
    """Return one epoch of each reader over the same shards, as a function that returns how many samples came."""
    samples = ShardedSamples(store, shards, folder)
    count = len(samples)
    paths = [str(folder / f"{part.key}.tar") for part in shards.parts]
    epoch = 0

    def ours(batches: Batches) -> int:
        nonlocal epoch
        order, epoch = Order(epoch, [Source("samples", tuple(samples.sizes))]), epoch + 1
        return sum(len(batches(order.rows(step, BATCH), step)["captions"]) for step in range(count // BATCH))

    def full_decode(members: dict[str, Any]) -> tuple[Any, str]:
        with Image.open(io.BytesIO(members["jpg"])) as picture:
            return resize(picture, IMAGE_SIZE), members["txt"].decode()

    def theirs() -> int:
        data = webdataset.WebDataset(paths, shardshuffle=len(paths), seed=epoch).shuffle(500).map(full_decode)
        found, held = 0, []
        for pixels, _ in data:
            held.append(pixels)
            if len(held) == BATCH:
                normalise(held)
                found, held = found + len(held), []
        return found

    return {
        "ours": partial(ours, Batches(samples)),
        "ours, full decode": partial(ours, Batches(samples, FullyDecoded)),
        "webdataset": theirs,
    }


def waiting(batches: Batches, workers: int, busy: Callable[[], object]) -> float:
    """Return the share of the steps' time spent waiting for data, the first two left out while workers start."""
    count = len(batches.samples)
    order = Order(0, [Source("samples", (count,))])
    maker = Maker(batches, order, steps=STEPS, global_batch_size=BATCH)
    waited, began = 0.0, time.perf_counter()
    source = made_in_order(maker, 0, workers)
    for step in range(STEPS):
        start = time.perf_counter()
        next(source)
        if step == 2:
            waited, began = 0.0, start
        waited += time.perf_counter() - start
        busy()
    source.close()
    return waited / (time.perf_counter() - began)


def decoding(samples: Sequence[tuple[str, dict[str, bytes]]], rounds: int) -> dict[str, Any]:
    """Return how much faster pictures of 400 pixels and more are decoded at the scale they are needed at."""
    large = []
    for _, members in samples:
        with Image.open(io.BytesIO(members["jpg"])) as picture:
            if min(picture.size) >= 400:
                large.append(members["jpg"])

    def decode(data: bytes, scaled: bool) -> np.ndarray:
        with Image.open(io.BytesIO(data)) as picture:
            return resize(picture, IMAGE_SIZE, scaled_decode(picture, IMAGE_SIZE, None) if scaled else None)

    if not large:
        return {"skipped": "no picture has 400 pixels per side"}
    seconds = interleaved(
        {
            "full": lambda: [decode(data, False) for data in large],
            "scaled": lambda: [decode(data, True) for data in large],
        },
        rounds,
    )
    errors = [np.mean((decode(data, True).astype(float) - decode(data, False)) ** 2) for data in large]
    decibels = 10 * np.log10(255**2 / np.maximum(errors, 1e-9))
    ratio, low, high = ratio_of_medians(seconds["full"], seconds["scaled"])
    return {
        "pictures": len(large),
        "ratio": ratio,
        "interval_95": [low, high],
        "psnr_db": {"least": float(decibels.min()), "median": float(np.median(decibels))},
    }


def training_step() -> Callable[[], object]:
    """Return the work of a step on such pictures: forward and backward through a small vision tower."""
    shape = VisionConfig(
        image_size=IMAGE_SIZE,
        patch_size=8,
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=3,
        intermediate_size=256,
    )
    tower, pictures = InternVisionModel(shape), torch.randn(BATCH, 3, IMAGE_SIZE, IMAGE_SIZE)

    def step() -> None:
        tower(pictures).last_hidden_state.square().mean().backward()

    return step


def measure(
    folder: Path | None = None, most: int = 384, rounds: int = 7, workers: Sequence[int] = (0, 1, 2)
) -> dict[str, Any]:
    """Return what was measured on the photographs of a folder, or why nothing was.

    Args:
        folder: Of `*photos.tar`; what the environment names when left out.
        most: Pictures that are taken.
        rounds: Epochs of each reader.
        workers: Numbers of data workers of which the waiting is measured.
    """
    named = os.environ.get(PICTURES)
    folder = folder or (Path(named) if named else None)
    samples = list(photographs(folder, most)) if folder else []
    if len(samples) < BATCH * STEPS:
        return {"skipped": f"{PICTURES} names no folder with {BATCH * STEPS} photographs in *photos.tar"}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="internvl-loader-") as name:
        store = Store(f"{name}/store")
        shards = make_shards(store, samples)
        epochs = readers(store, shards, Path(name) / "copies")
        counts = {reader: epoch() for reader, epoch in epochs.items()}
        seconds = interleaved(epochs, rounds, dropped=1)
        ratios = {}
        for pair in PAIRS:
            slow, fast = pair.split(" / ")
            ratio, low, high = ratio_of_medians(seconds[slow], seconds[fast])
            ratios[pair] = {"ratio": ratio, "interval_95": [low, high]}
        batches, busy = Batches(ShardedSamples(store, shards, Path(name) / "copies")), training_step()
        return {
            "pictures": len(samples),
            "image_size": IMAGE_SIZE,
            "samples_per_cpu_second": {each: counts[each] / float(np.median(seconds[each])) for each in epochs},
            "ratios": ratios,
            "waiting_share": {str(each): waiting(batches, each, busy) for each in workers},
            "scaled_decode": decoding(samples, rounds),
            "goals": GOALS,
            **surroundings(("torch", "webdataset", "pillow")),
        }


def main(path: Path = RESULT) -> None:
    """Measure, and write the table."""
    result = measure()
    if "skipped" in result:
        print(f"loader: skipped: {result['skipped']}")
        return
    lines = [
        f"{name:<18} {rate:8.0f} samples per CPU second" for name, rate in result["samples_per_cpu_second"].items()
    ]
    for pair, ratio in result["ratios"].items():
        lines.append(f"{pair}: {ratio['ratio']:.2f} ({ratio['interval_95'][0]:.2f} to {ratio['interval_95'][1]:.2f})")
    lines += [f"{each} data workers: {share:6.1%} of a step waits" for each, share in result["waiting_share"].items()]
    publish(result, "\n".join(lines), path)
