"""What models said is given back as it was, to the same question alone; what is damaged counts for nothing."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from measured_worlds import make_towers
from weight_shards import in_shards
from worlds import coloured, tiny_towers

from infra.storage import Store
from stages.checkpoints import publish
from stages.evaluations import memory
from stages.evaluations.memory import Memory
from stages.evaluations.subject import StoredSubject, kind_of
from stages.manifest import ManifestError
from stages.ref import Ref
from stages.sweep import Kind, find_leftovers, remove_leftovers
from stages.workspace import Output

ARRAY = np.random.default_rng(0).normal(size=(5, 3))


def test_an_array_comes_back_to_the_bit_and_to_its_own_question_alone(any_store: Store) -> None:
    kept = Memory(any_store, "c" * 64)
    kept.keep("d" * 64, "pictures", ARRAY)
    found = kept.recall("d" * 64, "pictures")
    assert found is not None and found.dtype == np.float64 and (found == ARRAY).all()
    for other, data, what in ((kept, "e" * 64, "pictures"), (kept, "d" * 64, "texts")):
        assert other.recall(data, what) is None
    assert Memory(any_store, "f" * 64).recall("d" * 64, "pictures") is None
    narrow = ARRAY.astype(np.float32)
    kept.keep("d" * 64, "narrow", narrow)  # type: ignore[arg-type]
    assert (back := kept.recall("d" * 64, "narrow")) is not None and back.dtype == np.float32


@pytest.mark.parametrize("where", [0, 20, -1])
def test_a_damaged_array_counts_for_nothing(store: Store, where: int) -> None:
    kept = Memory(store, "c" * 64)
    kept.keep("d" * 64, "pictures", ARRAY)
    path = Path(store.path(kept.key("d" * 64, "pictures")))
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)
    assert kept.recall("d" * 64, "pictures") is None
    path.write_bytes(bytes(data)[: len(data) // 2])
    assert kept.recall("d" * 64, "pictures") is None


def test_texts_come_back_to_their_own_question_alone_and_damaged_ones_never(any_store: Store) -> None:
    kept, said = Memory(any_store, "c" * 64), ["two dogs", None, "", "\u4e24\u53ea\u72d7"]
    kept.keep_texts("d" * 64, "captions", said)
    assert kept.recall_texts("d" * 64, "captions") == said
    assert kept.recall_texts("e" * 64, "captions") is None and kept.recall_texts("d" * 64, "others") is None
    assert kept.recall("d" * 64, "captions") is None, "numbers of the same name are something else"
    key = kept.key("d" * 64, "captions", "texts")
    any_store.write(key, any_store.read(key).replace(b"two dogs", b"ten dogs"))
    assert kept.recall_texts("d" * 64, "captions") is None


def test_a_subject_writes_once_per_checkpoint_and_data(store: Store) -> None:
    examples, asked = coloured(1), []

    def make() -> list[str | None]:
        asked.append(1)
        return ["red", None]

    for _ in range(2):
        subject = StoredSubject(store, make_towers(store), 4)
        assert subject.written("x", examples, make) == ["red", None]
    assert len(asked) == 1


def test_another_version_of_the_code_asks_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Memory(store, "c" * 64)
    kept.keep("d" * 64, "pictures", ARRAY)
    monkeypatch.setattr(memory, "VERSION", memory.VERSION + 1)
    assert kept.recall("d" * 64, "pictures") is None


def test_a_subject_computes_once_per_checkpoint_and_data(store: Store) -> None:
    examples, asked = coloured(1), []

    def make() -> np.ndarray:
        asked.append(1)
        return ARRAY

    one, other = (make_towers(store, version=name, seed=seed) for name, seed in (("a", 1), ("b", 2)))
    for checkpoint in (one, one, other):
        subject = StoredSubject(store, checkpoint, 4)
        assert (subject.remembered("x", examples, make) == ARRAY).all()
    assert len(asked) == 2
    StoredSubject(store, one, 4).remembered("x", coloured(2), make)
    assert len(asked) == 3


def test_a_sweep_takes_what_checkpoints_said_that_are_gone(store: Store) -> None:
    standing = make_towers(store, version="a")
    Memory(store, standing.digest).keep("d" * 64, "x", ARRAY)
    Memory(store, "0" * 64).keep("d" * 64, "x", ARRAY)
    gone = Memory(store, "0" * 64).key("d" * 64, "x")
    for each in store.entries():
        os.utime(store.path(each.key), (each.modified - 1e6,) * 2)
    found = find_leftovers(store, 3600)
    assert [(each.entry.key, each.kind) for each in found.leftovers] == [(gone, Kind.REMEMBERED)]
    assert find_leftovers(store, 1e9).leftovers == []
    assert len(remove_leftovers(store, found.leftovers)) == 1
    assert Memory(store, standing.digest).recall("d" * 64, "x") is not None
    everything = find_leftovers(store, 3600, "remembered").leftovers
    assert [each.kind for each in everything] == [Kind.REMEMBERED]


def test_subjects_know_what_they_are(store: Store) -> None:
    towers = StoredSubject(store, make_towers(store), 4)
    assert (towers.kind, towers.model, towers.name) == ("contrastive", "InternVL-C", "checkpoints/contrastive@t")
    assert towers.towers is towers.judge.model and towers.vision is towers.towers.vision_model
    with pytest.raises(ManifestError, match=r"checkpoints/contrastive@t is no chat model; evaluate a checkpoint of"):
        _ = towers.session
    assert StoredSubject(store, make_towers(store, "generative"), 4).judge.model.generative
    tuned = make_towers(store, version="tuned").model_copy(update={"stage": "finetune"})
    assert kind_of(tuned) == "contrastive"


def test_an_encoder_alone_is_a_vision_tower_and_nothing_else(store: Store) -> None:
    tower = tiny_towers().vision_model
    output = Output(store, Ref(name="checkpoints/encoder", version="t"), "distill", {"inputs": {}})
    config = json.dumps({"vision": tower.config.model_dump(mode="json")}).encode()
    files = {"config": ("config.json", config)} | {
        name.partition(".")[0]: (name, content) for name, content in in_shards(tower.state_dict()).items()
    }
    names = {"names": {role: name for role, (name, _) in files.items()}}
    encoder = output.commit([publish(output, "d" * 64, files, 1, names)])
    alone = StoredSubject(store, encoder, 4)
    assert (alone.kind, alone.model) == ("vision", "InternViT-6B")
    pixels = torch.zeros(1, 3, 16, 16)
    with torch.no_grad():
        seen, right = alone.vision(pixels).last_hidden_state, tower.eval()(pixels).last_hidden_state
    assert torch.equal(seen, right) and not alone.vision.training
    with pytest.raises(ManifestError, match="checkpoints/encoder@t is no InternVL-C or -G; evaluate a checkpoint of"):
        _ = alone.judge


def test_what_a_gpu_said_is_not_what_a_processor_says(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, asked = StoredSubject(store, make_towers(store), 4), []

    def make() -> np.ndarray:
        asked.append(1)
        return ARRAY

    for gpu in (False, True, False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        subject.remembered("x", coloured(1), make)
    assert len(asked) == 2
