"""The first release's files, which have no configuration."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from layouts_data import RMS, TOWERS, equal, laid, made

from models.recognise import describe
from models.renaming import WeightsError
from stages import model_files
from stages.convert import convert
from stages.weight_files import on_meta, open_weights, write_weights


@pytest.mark.parametrize("nested", [False, True])
def test_the_first_releases_files_are_read_without_a_configuration(tmp_path: Path, nested: bool) -> None:
    weights = laid("c", "pth")[1]
    assert {"cls_token", "blocks.1.ls2.gamma", "transformer.norm.weight", "patch_embed.proj.bias"} < set(weights)
    torch.save({"module": weights} if nested else weights, tmp_path / "internvl_c.pth")
    done = convert(tmp_path / "internvl_c.pth", tmp_path / "c", shard_bytes=20_000)
    assert done.what == "InternVL-C" and done.became == "official" and "--config" in done.notes[0]
    assert equal(open_weights(tmp_path / "c"), made("c")[1]) and not (tmp_path / "c" / "config.json").exists()
    (tmp_path / "mine.json").write_text(json.dumps(laid("c", "official")[0]))
    done = convert(tmp_path / "internvl_c.pth", tmp_path / "ours", "ours", config=tmp_path / "mine.json")
    assert describe(json.loads((tmp_path / "ours" / "config.json").read_text())).config == TOWERS and not done.notes

    vision = {**laid("6b_style", "pth")[1], "clip_projector.norm1_q.bias": torch.zeros(2)}
    torch.save(vision, tmp_path / "vit.pth", _use_new_zipfile_serialization=not nested)
    assert convert(tmp_path / "vit.pth", tmp_path / "vit").what == "InternViT"
    assert equal(open_weights(tmp_path / "vit"), made("6b_style")[1])


def test_a_pth_of_a_published_composition_is_known_by_its_shapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = model_files.SIZES["InternVL-C"].model_copy(update={"name": "tiny", "vision": RMS, "towers": TOWERS})
    monkeypatch.setattr("models.shapes.SIZES", {"tiny": size})
    monkeypatch.setattr(model_files, "SIZES", {"tiny": size})
    torch.save(laid("c", "pth")[1], tmp_path / "c.pth")
    done = convert(tmp_path / "c.pth", tmp_path / "c", "ours")
    assert done.notes == ["taken for tiny, whose shapes these are"]
    assert describe(json.loads((tmp_path / "c" / "config.json").read_text())).config == TOWERS


def test_the_unused_head_of_internvl_c_stays_behind_and_it_is_said(tmp_path: Path) -> None:
    fields, weights = laid("c", "ours")
    whole = {**weights, "qllama.lm_head.weight": torch.ones(40, 32)}
    write_weights(whole, on_meta(whole), tmp_path / "ours")
    (tmp_path / "ours" / "config.json").write_text(json.dumps(fields))
    done = convert(tmp_path / "ours", tmp_path / "c.pth")
    assert done.became == "pth" and "qllama.lm_head.weight stays behind" in done.notes[0]
    assert equal(open_weights(tmp_path / "c.pth"), laid("c", "pth")[1])
    convert(tmp_path / "ours", tmp_path / "official")
    assert equal(open_weights(tmp_path / "official"), whole), "where it is known it is kept"


def test_a_pth_that_tells_no_shape_is_refused(tmp_path: Path) -> None:
    weights = laid("6b_style", "pth")[1]
    del weights["patch_embed.proj.weight"]
    for given in (weights, {"a": torch.zeros(1)}):
        torch.save(given, tmp_path / "vit.pth")
        with pytest.raises(ValueError, match=r"vit\.pth is not known for .*patch_embedding\.weight.*give --config"):
            convert(tmp_path / "vit.pth", tmp_path / "vit")


class Harm:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


def test_a_pth_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({**laid("6b_style", "pth")[1], "more": Harm(tmp_path / "made")}, tmp_path / "vit.pth")
    with pytest.raises(WeightsError, match="holds more than tensors, and would run code to be read"):
        convert(tmp_path / "vit.pth", tmp_path / "vit")
    assert not (tmp_path / "made").exists() and not (tmp_path / "vit").exists()
