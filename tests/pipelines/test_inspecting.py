"""`internvl inspect`: by size, folder and artifact; what it is not is named with what there is."""

import json
import struct
from pathlib import Path

import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from infra.storage import Store
from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.counting import count, shapes
from models.internvl import InternVL
from models.sizes import SIZES
from pipelines.cli import app
from pipelines.named_models import find_model
from stages.checkpoints import publish
from stages.ref import Ref
from stages.workspace import Output

VISION = VisionConfig(
    image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
)
TEXT = TextConfig(
    vocab_size=60, hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, qkv_bias=False
)
TOWERS = InternVLConfig(vision=VISION, text=TEXT, embed_dim=8, attn_pool_num_heads=2, num_query_token=5)


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("INTERNVL_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    return Store(str(tmp_path / "home" / "store"))


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["inspect", *words])


def said(result: Result) -> str:
    """Return the output without frames and line breaks."""
    return " ".join("".join(" " if letter in "│┃" else letter for letter in result.output).split())


def put(folder: Path, config: object, *, generative: bool | None = None) -> Path:
    """Write a model's folder, with weights where it is said which."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if generative is not None:
        save_file(InternVL(TOWERS, generative=generative).state_dict(), folder / "model.safetensors")
    return folder


def checkpoint(store: Store, folder: Path, ref: str) -> None:
    """Publish a folder as a finished artifact."""
    names = {path.stem.replace(".", "_"): path.name for path in sorted(folder.iterdir())}
    files: dict[str, tuple[str, bytes | Path]] = {role: (name, folder / name) for role, name in names.items()}
    output = Output(store, Ref.model_validate(ref), "contrastive", {"inputs": {}})
    part = publish(output, "0", files, 3, {"names": names})
    output.commit([part])


def test_the_sizes_are_listed() -> None:
    result = call()
    assert result.exit_code == 0
    for size in SIZES.values():
        assert f"{size.name} {size.kind} {count(shapes(size)):,}" in said(result)


def test_internvl_g() -> None:
    result = call("internvl-g")
    assert result.exit_code == 0, result.output
    text = said(result)
    for each in (
        "Parameters in 1,048 tensors",
        "cross-attention 956,418,048 6.91%",
        "all 13,834,975,747",
        "per image, encoder, 224 px, 257 tokens 1,536.6 3,073.2",
        "per text of 80 tokens 519.8",
        "per image, 96 queries alone 786.7",
        "1,010,334,467 trained 27.67 GB 2.02 GB 12.12 GB 41.81 GB",
        "78.95 MB",
    ):
        assert each in text, each


def test_what_is_asked_for_changes_the_compute() -> None:
    result = call("InternVL2-8B", "--tiles", "13", "--text-tokens", "200")
    assert "13 tiles = 3,328 tokens, and 200 of text" in said(result)
    assert "336 px, 577 tokens 3,506.6" in said(call("InternViT-6B-224px", "--image-size", "336"))
    refused = call("InternViT-6B-224px", "--image-size", "225")
    assert refused.exit_code == 2 and "a picture of 225 pixels does not divide" in said(refused)


def test_a_model_that_was_never_released_is_marked() -> None:
    assert "weights never released" in said(call("InternVL-Chat-V1-5-Plus"))
    pro = call("InternVL2-Pro")
    assert pro.exit_code == 2 and "was never released" in said(pro)


def test_a_folder_is_told_apart_by_its_weights(tmp_path: Path, store: Store) -> None:
    for generative in (True, False):
        folder = put(tmp_path / f"model{generative}", TOWERS.model_dump(mode="json"), generative=generative)
        size, stored = find_model(str(folder), store)
        assert size.kind == ("generative" if generative else "contrastive")
        assert stored is not None and len(stored) == len(InternVL(TOWERS, generative=generative).state_dict())
        result = call(str(folder))
        assert result.exit_code == 0, result.output
        wanted = "tensors, just these" if generative else "not counted: qllama.lm_head.weight"
        assert wanted in said(result)


def test_a_chat_config_without_weights_is_enough(tmp_path: Path) -> None:
    config = ChatConfig(vision=VISION, text=TEXT, image_context_token_id=7, eos_token_id=2)
    result = call(str(put(tmp_path / "chat", config.model_dump(mode="json"))))
    assert result.exit_code == 0, result.output
    assert "chat, 4 tokens per tile" in said(result) and "stored" not in result.output


def test_weights_that_do_not_fit_their_config_are_named(tmp_path: Path) -> None:
    other = TOWERS.model_copy(update={"text": TEXT.model_copy(update={"vocab_size": 61, "num_hidden_layers": 3})})
    text = said(call(str(put(tmp_path / "other", other.model_dump(mode="json"), generative=True))))
    assert "missing: qllama.model.layers.2." in text and "and " in text
    assert "of another shape: qllama.lm_head.weight, qllama.model.embed_tokens.weight" in text


def test_an_artifact(store: Store, tmp_path: Path) -> None:
    folder = put(tmp_path / "made", TOWERS.model_dump(mode="json"), generative=True)
    checkpoint(store, folder, "checkpoints/generative@own")
    result = call("checkpoints/generative@own")
    assert result.exit_code == 0, result.output
    parameters = sum(value.numel() for value in InternVL(TOWERS).parameters())
    assert f"all {parameters:,}" in said(result) and "just these" in said(result)
    unknown = said(call("generative"))
    assert "'generative' is no model that we know" in unknown
    assert "InternVL2-8B" in unknown and "Artifacts: checkpoints/generative@own." in unknown
    assert "finished versions: own" in said(call("checkpoints/generative@other"))


def test_an_artifact_without_a_model_is_refused(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "rows.json").write_text("[]")
    checkpoint(store, folder, "listing/own@photos")
    result = call("listing/own@photos")
    assert result.exit_code == 2 and "listing/own@photos holds no model" in said(result)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no config.json"),
        ({"config.json": b"{"}, "is no JSON"),
        ({"config.json": b"[]"}, "holds a list, no object"),
        ({"config.json": b'{"model_type": "bert"}'}, "neither one of ours nor"),
        ({"config.json": b'{"vision": {}, "text": {}, "embed_dim": 8}'}, "its config.json lacks 'vision.image_size'"),
        ({"config.json": b"{}", "model.safetensors": b"\xff" * 9}, "no safetensors file"),
        ({"config.json": b"{}", "model.safetensors": struct.pack("<Q", 7) + b'{"a":1}'}, "has no shape"),
    ],
)
def test_a_folder_that_holds_no_model_is_named(files: dict[str, bytes], message: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    result = call(str(folder))
    assert result.exit_code == 2, result.output
    assert message in said(result) and "Traceback" not in result.output


def test_nothing_of_that_name() -> None:
    result = call("InternVL9")
    assert result.exit_code == 2
    assert "Artifacts: none yet" in said(result) and "variant-6" in said(result)
