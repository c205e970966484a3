"""The benchmarks of what is learned: the same stages but for what a twin lacks, and numbers put side by side."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import learning, learning_chat, learning_tiles
from infra.storage import Store
from models.preprocess import tile
from stages.conversation_rows import check
from stages.evaluation_metrics import measure
from stages.manifest import Ledger, digest_of
from stages.ref import Ref
from stages.sources.questions import KINDS
from stages.sources.scenes import Split
from stages.sources.wide_scenes import COLUMNS, draw_wide, sample_wide
from stages.workspace import Output


def test_a_twin_differs_in_one_thing_and_reads_the_same() -> None:
    specs = {str(spec.artifact): spec for spec in learning_chat.specs_of(2)}
    own = specs["checkpoints/instruct@seed2"]
    for twin, changed in {"-blind": "blind", "-untrained": "untrained_vision"}.items():
        other = specs[f"checkpoints/instruct@seed2{twin}"]
        differ = {name for name, value in own.parameters.items() if other.parameters[name] != value}
        assert differ == {changed} and other.inputs == own.inputs
        assert specs[f"evaluations/instruct@seed2{twin}"].inputs == (other.artifact,)
    assert own.parameters["schedule"]["seed"] == 2
    assert [str(ref) for ref in own.inputs] == [
        "conversations@tiny",
        "checkpoints/language@seed2",
        "checkpoints/contrastive@seed2",
    ]
    # The towers are those of the other benchmark, so that none is trained twice.
    assert all(spec in learning.specs_of(2) for spec in learning_chat.specs_of(2)[:2])


def judged(store: Store, version: str, right: dict[str, float]) -> None:
    """Publish an evaluation that finds these shares of ten questions of each kind right."""
    output = Output(store, Ref(name="evaluations/instruct", version=version), "evaluate", {})
    hits = {kind: np.arange(10) < 10 * share for kind, share in right.items()}
    rows = [
        measure("iid", "en", f"question_{kind}", each, chance=0.2, blind=np.zeros(10)).row()
        for kind, each in hits.items()
    ]
    files = {"measures": ("measures.json", json.dumps({"measures": rows}).encode())}
    output.commit([output.part("measures", digest_of([version]), Ledger(listed=1, kept=1), files)], totals={})


def test_seeds_stand_beside_their_twins_and_kinds_are_averaged(store: Store) -> None:
    for seed, share in ((1, 0.9), (2, 0.7)):
        judged(store, f"seed{seed}", dict.fromkeys(KINDS, share) | {"shape": 0.4})
        judged(store, f"seed{seed}-blind", dict.fromkeys(KINDS, 0.3))
        judged(store, f"seed{seed}-untrained", dict.fromkeys(KINDS, 0.5))
    found = learning_chat.collect(store, [1, 2])
    relation = found["instruct/iid/en/question_relation"]
    assert relation["values"] == [0.9, 0.7] and relation["chance"] == 0.2
    assert relation["blind_twin"] == [0.3, 0.3] and relation["untrained_twin"] == [0.5, 0.5]
    assert found["instruct/iid/en/question_mean"]["values"] == [0.8, 0.64]
    assert "instruct/iid/en/question_mean | 64 / 80 | 20 | 0 / 0 | 30 / 30 | 50 / 50" in learning_chat.table(found)


def test_without_the_demo_it_says_what_to_run(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INTERNVL_STORE", str(store.root))
    for main in (lambda: learning_chat.main([]), learning_tiles.main):
        assert main() == 2
        assert "make demo" in capsys.readouterr().err


def test_a_wide_picture_is_a_good_row_whose_object_lies_in_one_tile() -> None:
    for index in range(12):
        made = learning_tiles.wide_row(index)
        row, members = made.told, made.members
        check(row, 1)
        scene = sample_wide(0, index, Split.TRAIN)
        assert row["conversations"][1]["value"] == scene.shape
        with Image.open(io.BytesIO(members["jpg"])) as picture:
            tiles = [np.asarray(each, dtype=int) for each in tile(picture, 48, 1, COLUMNS, use_thumbnail=True)]
        coloured = [(each.max(axis=2) - each.min(axis=2) > 60) for each in tiles]
        filled = [int(each.sum()) > 20 for each in coloured[:COLUMNS]]
        assert len(tiles) == COLUMNS + 1 and filled == [column == scene.column for column in range(COLUMNS)]
        # In the thumbnail, the last one, it is as high as before and narrow.
        height, width = (np.ptp(np.nonzero(coloured[-1])[axis]) + 1 for axis in (0, 1))
        assert height > 8 and width < 8


def test_wide_scenes_are_pure_functions() -> None:
    scene = sample_wide(1, 5, Split.TRAIN)
    assert scene == sample_wide(1, 5, Split.TRAIN) != sample_wide(1, 5, Split.IID)
    assert draw_wide(scene).tobytes() == draw_wide(scene).tobytes() and draw_wide(scene).size == (192, 48)


def test_both_ways_of_showing_differ_in_the_tiles_alone() -> None:
    data = Ref(name="conversations", version="wide")
    tiles, thumbnail = (learning_tiles.spec_of(way, data) for way in learning_tiles.WAYS)
    differ = {name for name, value in tiles.parameters.items() if thumbnail.parameters[name] != value}
    assert differ == {"max_dynamic_patch"} and tiles.inputs == thumbnail.inputs
