"""Models brought from one code's layout into another's and back, to the bit, and in little memory."""

import json
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from layouts_data import CHATS, MODELS, equal, laid, made, possible, write
from transformers import InternVLForConditionalGeneration

from models.recognise import Whose, describe
from models.renaming import State
from stages import convert as conversions
from stages import model_files
from stages.convert import convert
from stages.pth_files import write_pth
from stages.weight_files import INDEX, on_meta, open_weights, write_weights

TRIPS: list[tuple[str, Whose, Whose]] = [
    (name, first, second)
    for name in MODELS
    for first, second in (
        ("official", "native"), ("official", "ours"), ("ours", "native"), ("ours", "pth"), ("native", "official"),
        ("official", "pth"), ("pth", "ours"),
    )
    if possible(name, first) and possible(name, second)
]  # fmt: skip


@pytest.mark.parametrize(("name", "first", "second"), TRIPS)
def test_there_and_back_gives_the_same_to_the_bit(tmp_path: Path, name: str, first: Whose, second: Whose) -> None:
    source = write(name, first, tmp_path / "source")
    ending = {"pth": ".pth"}
    there = convert(source, tmp_path / f"there{ending.get(second, '')}", second, shard_bytes=20_000)
    assert (there.came, there.became) == (first, second)
    middle = open_weights(tmp_path / f"there{ending.get(second, '')}")
    assert equal(middle, laid(name, second)[1])
    language = name if first == "official" and second == "ours" and name in CHATS else None
    convert(tmp_path / f"there{ending.get(second, '')}", tmp_path / f"back{ending.get(first, '')}", first,
            language=language)  # fmt: skip
    back = tmp_path / f"back{ending.get(first, '')}"
    assert equal(open_weights(back), laid(name, first)[1])
    fields = json.loads((back.with_suffix(".json") if first == "pth" else back / "config.json").read_text())
    assert describe(fields).config == made(name)[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays(tmp_path: Path, dtype: torch.dtype) -> None:
    fields, weights = laid("internlm2", "official")
    half = {name: value.to(dtype) for name, value in weights.items()}
    write_weights(half, on_meta(half), tmp_path / "official")
    (tmp_path / "official" / "config.json").write_text(json.dumps(fields))
    convert(tmp_path / "official", tmp_path / "native")
    assert InternVLForConditionalGeneration.from_pretrained(tmp_path / "native").dtype == dtype
    convert(tmp_path / "native", tmp_path / "back")
    assert equal(open_weights(tmp_path / "back"), half)


def test_a_model_in_its_own_layout_again_gets_other_shards(tmp_path: Path) -> None:
    source = write("internlm2", "official", tmp_path / "official")
    assert (source / INDEX).exists()
    convert(source, tmp_path / "one", "official")
    assert not (tmp_path / "one" / INDEX).exists() and equal(open_weights(tmp_path / "one"), open_weights(source))


class Counted(Mapping[str, torch.Tensor]):
    """Weights that count how many of the tensors they gave out are still alive."""

    def __init__(self, weights: State) -> None:
        self.weights, self.alive, self.most = weights, 0, 0

    def __getitem__(self, name: str) -> torch.Tensor:
        value = self.weights[name].clone()
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(value, self._gone)
        return value

    def _gone(self) -> None:
        self.alive -= 1

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("internlm2", "official", "native"), ("internlm2", "native", "official"), ("phi3", "ours", "official"),
        ("qwen2", "native", "ours"), ("g", "ours", "pth"), ("c", "pth", "official"), ("300m_style", "native", "pth"),
    ],
)  # fmt: skip
def test_a_conversion_holds_no_more_than_a_few_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, first: Whose, second: Whose
) -> None:
    source = write(name, first, tmp_path / "source")
    read, written = [], []

    def counted_reads(path: Path) -> State:
        read.append(Counted(open_weights(path)))
        return read[-1]

    def counted(writer: Any) -> Any:
        def write_counted(weights: State, *rest: Any) -> Any:
            written.append(Counted(weights))
            read[0].most = 0
            return writer(written[-1], *rest)

        return write_counted

    monkeypatch.setattr(model_files, "open_weights", counted_reads)
    monkeypatch.setattr(model_files, "on_meta", lambda weights: on_meta(weights.weights))
    monkeypatch.setattr(conversions, "on_meta", lambda weights: on_meta(getattr(weights, "weights", weights)))
    monkeypatch.setattr(conversions, "write_weights", counted(write_weights))
    monkeypatch.setattr(conversions, "write_pth", counted(write_pth))
    convert(source, tmp_path / ("target.pth" if second == "pth" else "target"), second, shard_bytes=10_000)
    (reads,), (writes,) = read, written
    assert len(reads) > 25
    assert 1 <= reads.most <= 4 and 1 <= writes.most <= 2, "three pieces of a fused weight, and the last one written"
    assert reads.alive + writes.alive <= 2
