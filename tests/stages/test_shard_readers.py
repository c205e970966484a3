"""Shards are read as they are by the readers that people have: webdataset, open_clip, clip-retrieval."""

import io
import json
from argparse import Namespace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image
from shard_world import kept_rows, make_world, write

from infra.storage import Store
from stages.batches import ShardedSamples
from stages.lean import lean_package
from stages.manifest import Manifest, ManifestError
from stages.shard_index import read_index
from stages.tars import TarError, read_tar

Expected = list[tuple[str, dict[str, bytes]]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Manifest]:
    store = Store(str(tmp_path_factory.mktemp("store")))
    make_world(store)
    return store, write(store, rows_per_shard=15)


@pytest.fixture
def urls(world: tuple[Store, Manifest]) -> list[str]:
    store, shards = world
    return [store.path(shards.key(part.files["tar"])) for part in shards.parts]


@pytest.fixture
def expected(urls: list[str]) -> Expected:
    found = [sample for url in urls for sample in read_tar(Path(url).read_bytes())]
    assert len(found) == len(kept_rows())
    return found


def pixels(data: bytes) -> list[int]:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB")).mean(axis=(0, 1)).round().astype(int).tolist()


def test_webdataset(urls: list[str], expected: Expected) -> None:
    found = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [(each["__key__"], {name: each[name] for name in ("jpg", "txt", "json")}) for each in found] == expected
    decoded = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8").to_tuple("jpg", "txt", "json"))
    for (picture, text, facts), (key, members) in zip(decoded, expected, strict=True):
        assert (text, facts) == (members["txt"].decode(), json.loads(members["json"])) and facts["uid"] == key
        assert picture.mean(axis=(0, 1)).round().astype(int).tolist() == pixels(members["jpg"])


@pytest.mark.parametrize("train", [False, True])
def test_open_clip(urls: list[str], expected: Expected, train: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from open_clip_train import data

    # Its training reader stumbles over the end marks of webdataset >= 0.2.96 (mlfoundations/open_clip#935), whatever
    # the shards; this is the way round that its issue gives.
    monkeypatch.setattr(data, "tar_file_expander", partial(data.tar_file_expander, eof_value=None))
    arguments = Namespace(
        train_data="::".join(urls), val_data="::".join(urls), train_num_samples=len(expected), workers=0, seed=0,
        val_num_samples=len(expected), train_data_upsampling_factors=None, batch_size=6, world_size=1,
        dataset_resampled=False,
    )  # fmt: skip
    read = data.get_wds_dataset(
        arguments,
        lambda picture: np.asarray(picture).mean(axis=(0, 1)).round().astype(int),
        is_train=train,
        tokenizer=lambda text: [text],
    )
    found = [
        (text, list(map(int, mean)))
        for means, texts in read.dataloader
        for mean, text in zip(means, texts, strict=True)
    ]
    wanted = [(members["txt"].decode(), pixels(members["jpg"])) for _, members in expected]
    assert (sorted(found) if train else found) == (sorted(wanted) if train else wanted), "training shuffles"


def test_clip_retrieval(urls: list[str], expected: Expected) -> None:
    lean_package("clip_retrieval")
    lean_package("clip_retrieval.clip_inference")
    from clip_retrieval.clip_inference.reader import create_webdataset

    read = create_webdataset(urls, lambda picture: picture.size, lambda texts: texts, enable_metadata=True)
    found = [(each["image_filename"], each["text"], each["metadata"], each["image_tensor"]) for each in read]
    assert found == [(key, m["txt"].decode(), m["json"].decode(), (24, 16)) for key, m in expected]


def test_a_shard_cut_between_two_samples_is_noticed_by_us_and_not_by_others(
    world: tuple[Store, Manifest], tmp_path: Path
) -> None:
    store, shards = world
    part = shards.parts[0]
    key = shards.key(part.files["tar"])
    data = store.read(key)
    index = read_index(store, shards, part).to_pylist()
    cut = data[: index[5]["offset"]]
    (tmp_path / "cut.tar").write_bytes(cut)
    assert len(list(webdataset.WebDataset([str(tmp_path / "cut.tar")], shardshuffle=False))) == 5
    with pytest.raises(TarError, match=f"cut at byte {len(cut)}, between two members"):
        list(read_tar(cut))
    store.write(key, cut)
    try:
        with pytest.raises(ManifestError, match="differs from its manifest"):
            ShardedSamples(store, shards, tmp_path / "copy")
    finally:
        store.write(key, data)
