"""Every protocol on every description of real data, from the files to its numbers, with models that know nothing."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_models import chat_session
from talking import Talker
from worlds import FakeSubject, tiny_judge

from stages.evaluations.data import find_place, open_examples
from stages.evaluations.registry import Benchmark, Row, load_own

DATA = Path(__file__).resolve().parents[4] / "shared/data"
OWN = [load_own(file) for file in sorted((Path(__file__).parent / "own").glob("*.yaml"))]
ROWS = [(each, row) for each in OWN for row in each.rows]
LIMIT = 12
SMALL: dict[str, dict[str, Any]] = {
    "zero_shot_classification": {"templates": ("a photo of a {c}.",)},
    "linear_probe": {"epochs": 2, "baselines": False, "neighbours": 3},
    "segmentation": {
        "crop_size": 32,
        "iterations": 2,
        "warmup": 0,
        "batch_size": 2,
        "baselines": False,
        "channels": 8,
    },
    "captioning": {"max_new_tokens": 3, "min_new_tokens": 0, "beams": 1},
    "dialogue": {"max_new_tokens": 3, "blind": False},
    "video_classification": {"frames": 2},
    "video_retrieval": {"frames": 2},
}


@pytest.mark.parametrize(("each", "row"), ROWS, ids=[f"{each.name}-{row.protocol}" for each, row in ROWS])
def test_a_row_is_measured(each: Benchmark, row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = find_place(each, DATA)
    if place is None:
        pytest.skip(f"../shared/data/{each.place} is not here")
    # METEOR takes Java twenty seconds to begin; its own tests have it.
    monkeypatch.setattr("stages.evaluations.caption_scores.shutil.which", lambda _: None)
    protocol = importlib.import_module(f"stages.evaluations.{row.protocol}")
    examples = open_examples(
        each, place, limit=4 if "video" in row.protocol else LIMIT, language=row.language, cache=tmp_path
    )
    settings = protocol.Settings.model_validate({**row.settings, **SMALL.get(row.protocol, {})})
    subject = Talker(chat_session()) if row.protocol == "dialogue" else FakeSubject(tiny_judge(generative=True))
    found = protocol.run(subject, examples, settings, each.name)
    first = found.measures[0]
    assert first.split == each.name and first.language == row.language and first.n > 0
    assert np.isfinite([first.value, first.low, first.high]).all() and first.low <= first.value <= first.high
    assert all(len(values) == len(found.keys) for values in found.scores.values())
    assert set(found.keys) <= {examples.key(number) for number in range(len(examples))}
