"""`internvl convert`: what it prints and how it ends."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import InternVLVisionModel
from typer.testing import CliRunner, Result

from infra.storage import Store
from models.config import TextConfig, VisionConfig
from models.decoders import BY_LAYOUT
from models.intern_vit import InternVisionModel
from models.pth_names import encoder_to_pth
from models.renaming import below
from pipelines.cli import app
from pipelines.converting import LanguageLayout
from stages.checkpoints import publish
from stages.ref import Ref
from stages.workspace import Output

PARITY = Path(__file__).parents[1] / "parity"
NAME = "intern_vit_300m_style"


def call(*words: Path | str) -> Result:
    return CliRunner().invoke(app, ["convert", *map(str, words)])


def said(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.fixture
def pth(tmp_path: Path) -> Path:
    torch.save(dict(encoder_to_pth(below(load_file(PARITY / f"{NAME}.safetensors"), "w."))), tmp_path / "vit.pth")
    return tmp_path / "vit.pth"


def test_a_published_encoder_goes_through_every_layout_and_computes_the_same(tmp_path: Path, pth: Path) -> None:
    lone = call(pth, tmp_path / "lone")
    assert lone.exit_code == 0 and "InternViT: pth -> official" in lone.output and "--config" in said(lone), (
        lone.output
    )
    facts = json.loads((PARITY / f"{NAME}.json").read_text())
    config = tmp_path / "vit_config.json"
    config.write_text(json.dumps({"model_type": "intern_vit_6b", **facts["config"]}))
    ours, native, official, back = (tmp_path / name for name in ("ours", "native", "official", "back.pth"))
    for words, line in (
        ((pth, ours, "--to", "ours", "--config", config), "InternViT: pth -> ours"),
        ((ours, native, "--shard-gigabytes", "0.001"), "InternViT: ours -> native"),
        ((native, official), "InternViT: native -> official"),
        ((official, back), "InternViT: official -> pth"),
    ):
        result = call(*words)
        assert result.exit_code == 0 and line in result.output and "bytes" in result.output, result.output
    first, last = torch.load(pth, weights_only=True), torch.load(back, weights_only=True)
    assert set(first) == set(last) and all(torch.equal(first[name], last[name]) for name in first)
    data = load_file(PARITY / f"{NAME}.safetensors")
    with torch.no_grad():
        found = InternVLVisionModel.from_pretrained(native).eval()(data["pixel_values"]).last_hidden_state
    assert (found - data["last_hidden_state"]).abs().max() <= 1e-5 * data["last_hidden_state"].abs().max()


def test_what_cannot_be_converted_is_refused(tmp_path: Path, pth: Path) -> None:
    spoken, empty = tmp_path / "spoken", tmp_path / "empty"
    spoken.mkdir()
    empty.mkdir()
    (spoken / "config.json").write_text('{"model_type": "bert"}')
    for words, reason in (
        ((spoken, tmp_path / "out"), "is neither one of ours nor"),
        ((empty, tmp_path / "out"), "config.json is missing"),
        ((tmp_path / "none.pth", tmp_path / "out"), "none.pth is missing; name a folder"),
        ((pth, spoken), "exists already; name another place"),
        ((pth, tmp_path / "out", "--to", "pth"), "to a file NAME.pth"),
        ((pth, tmp_path / "out", "--to", "gguf"), "Invalid value for '--to'"),
    ):
        result = call(*words)
        assert result.exit_code == 2 and reason in " ".join(said(result).replace("│", " ").split()), result.output
        assert not (tmp_path / "out").exists()


def test_an_artifact_is_converted_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("INTERNVL_STORE", raising=False)
    vision = VisionConfig(
        image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    text = TextConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    model = InternVisionModel(vision)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    for ref, config in (
        ("checkpoints/eye@own", {"vision": vision.model_dump()}),
        ("checkpoints/language@own", {"text": text.model_dump()}),
        ("listing/own@own", None),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        names = {"weights": "model.safetensors"} | ({"config": "config.json"} if config else {})
        files: dict[str, tuple[str, bytes | Path]] = {role: (name, tmp_path / name) for role, name in names.items()}
        output = Output(Store(str(tmp_path / "home" / "store")), Ref.model_validate(ref), "made", {"stage": "made"})
        output.commit([publish(output, "d" * 64, files, 1, {"names": names})])
    result = call("checkpoints/eye@own", tmp_path / "native")
    assert result.exit_code == 0 and "InternViT: ours -> native" in result.output, result.output
    theirs = InternVLVisionModel.from_pretrained(tmp_path / "native")
    assert torch.equal(theirs.embeddings.cls_token, model.embeddings.class_embedding)
    for ref, reason in (
        ("checkpoints/language@own", "checkpoints/language@own/config.json is of a language model alone"),
        ("listing/own@own", "listing/own@own holds no model"),
        ("checkpoints/eye@other", "finished versions: own"),
    ):
        result = call(ref, tmp_path / "out")
        assert result.exit_code == 2 and reason in said(result), result.output
        assert not (tmp_path / "out").exists()


def test_the_help_names_every_layout() -> None:
    text = said(call("--help"))
    for word in (
        "ours",
        "official",
        "native",
        "pth",
        "internlm2",
        "--config",
        "--image-token-id",
        "Nothing is unpickled",
    ):
        assert word in text, word
    assert [each.value for each in LanguageLayout] == list(BY_LAYOUT)
