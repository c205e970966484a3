"""A language model that is taken instead of trained: same numbers, right ends, and every folder that is none."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pretrained_folders import write
from safetensors.torch import load_file, save_file
from training_data import make_shards

from infra.cluster import InlineCluster
from infra.storage import Store
from models.config import TextConfig
from models.decoders import DECODERS
from models.qllama import LlamaForCausalLM as Ours
from models.renaming import fill
from stages import pretrained_language
from stages.checkpoints import fetch
from stages.language import Parameters, pin
from stages.manifest import Manifest, ManifestError
from stages.materialize import Drift, StageSpec, materialize
from stages.pairs import Texts
from stages.pretrained_language import located, look
from stages.ref import Ref
from stages.weight_files import open_weights, write_weights


def take(store: Store, folder: Path | str, version: str = "t", **given: Any) -> Manifest:
    ref = Ref(name="checkpoints/language", version=version)
    parameters = pin(Parameters(pretrained=str(folder), **given)).model_dump(mode="json")
    return materialize(StageSpec(stage="language", artifact=ref, parameters=parameters), store, InlineCluster())


def logits(folder: Path, ids: torch.Tensor) -> torch.Tensor:
    config = TextConfig.model_validate(json.loads((folder / "config.json").read_text())["text"])
    model = Ours(config).eval()
    fill(model, open_weights(folder), "the taken model")
    with torch.no_grad():
        return torch.as_tensor(model(ids))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_next_tokens_are_those_of_transformers(store: Store, tmp_path: Path, kind: str) -> None:
    theirs = write(tmp_path / "given", kind)
    made = take(store, tmp_path / "given")
    folder = fetch(store, made, tmp_path / "taken")
    ids = torch.randint(6, 300, (3, 17))
    with torch.no_grad():
        expected = theirs(ids).logits
    assert expected.std() > 0.01
    torch.testing.assert_close(logits(folder, ids), expected, atol=1e-5, rtol=0)
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.json", "tokenizer.json"}
    assert made.ledger.listed == 0 and made.parts[0].facts["metrics"]["steps"] == 0


def test_a_layout_with_fused_weights_is_taken_apart_and_half_precision_stays(store: Store, tmp_path: Path) -> None:
    write(tmp_path / "llama")
    (taken := tmp_path / "fused").mkdir()
    config, half = look(tmp_path / "llama").config, {}
    for name, value in load_file(tmp_path / "llama" / "model.safetensors").items():
        half[name] = value.to(torch.bfloat16)
    save_file(dict(DECODERS["InternLM2ForCausalLM"].from_llama(half, config)), taken / "model.safetensors")
    fields = json.loads((tmp_path / "llama" / "config.json").read_text())
    fields |= {"architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2"}
    (taken / "config.json").write_text(json.dumps(fields))
    shutil.copy(tmp_path / "llama" / "tokenizer.json", taken)
    folder = fetch(store, take(store, taken), tmp_path / "out")
    found = open_weights(folder)
    assert set(found) == set(half) and all(torch.equal(found[name], half[name]) for name in half)


def test_a_model_in_shards_is_taken_and_published_in_shards(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = write(tmp_path / "given")
    theirs.save_pretrained(tmp_path / "given", max_shard_size="30KB")
    (tmp_path / "given" / "model.safetensors").unlink(missing_ok=True)
    monkeypatch.setattr(
        pretrained_language, "write_weights", lambda *given: write_weights(*given, shard_bytes=40_000)
    )
    folder = fetch(store, take(store, tmp_path / "given"), tmp_path / "taken")
    assert len(list(folder.glob("model-*.safetensors"))) > 1 and not (folder / "model.safetensors").exists()
    ids = torch.arange(10)[None]
    with torch.no_grad():
        torch.testing.assert_close(logits(folder, ids), theirs(ids).logits, atol=1e-5, rtol=0)
    train(store, 2)


def train(store: Store, steps: int) -> Manifest:
    make_shards(store, samples=40)
    refs = tuple(Ref(name=name, version="t") for name in ("shards/clean", "checkpoints/language"))
    parameters = {
        "patch_size": 12, "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 1, "embed_dim": 16,
        "held_out": 8, "schedule": {"global_batch_size": 16, "steps": steps, "learning_rate": 0.01},
    }  # fmt: skip
    ref = Ref(name="checkpoints/contrastive", version="t")
    return materialize(
        StageSpec(stage="contrastive", artifact=ref, parameters=parameters, inputs=refs), store, InlineCluster()
    )


def test_the_contrastive_stage_trains_on_it_with_its_own_ends(store: Store, tmp_path: Path) -> None:
    write(tmp_path / "given", "qwen2")
    taken = take(store, tmp_path / "given")
    made = train(store, 2)
    assert made.totals["steps"] == 2
    # Untrained, the language is as bad as its beginning: the loss of the taken weights is what was measured.
    assert made.totals["language_loss_before"] > 3
    folder = fetch(store, made, tmp_path / "c")
    texts = Texts.of(folder, 80)
    assert (texts.ids("a")[0], texts.ids("a")[-1]) == (5, 5), "Qwen2's end of a text stands for its beginning too"
    assert len(texts.ids("a")) < 10, "padding of the published tokenizer stays behind"
    assert Texts.of(fetch(store, taken, tmp_path / "l"), 80).ids("a") == texts.ids("a")


def test_what_changed_in_the_folder_is_drift(store: Store, tmp_path: Path) -> None:
    write(tmp_path / "given")
    first = take(store, tmp_path / "given")
    assert take(store, tmp_path / "given") == first
    write(tmp_path / "given", num_hidden_layers=1)
    with pytest.raises(Drift, match=r"pretrained_digest"):
        take(store, tmp_path / "given")


def test_another_model_than_the_recipe_reckons_with_is_refused(store: Store, tmp_path: Path) -> None:
    write(tmp_path / "given")
    ref = Ref(name="checkpoints/language", version="t")
    shape = look(tmp_path / "given").config.model_copy(update={"hidden_size": 64})
    parameters = Parameters(pretrained=str(tmp_path / "given"), pretrained_shape=shape).model_dump(mode="json")
    with pytest.raises(ManifestError, match=r"hidden_size: 64 -> 32.*name the right folder"):
        materialize(StageSpec(stage="language", artifact=ref, parameters=parameters), store, InlineCluster())


def broken(folder: Path, how: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    if how == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    elif how == "no weights":
        (folder / "model.safetensors").unlink()
    elif how == "a weight missing":
        weights = load_file(folder / "model.safetensors")
        del weights["model.norm.weight"]
        save_file(weights, folder / "model.safetensors")
    elif how == "cut off":
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(data[:-100])
    elif how == "small vocabulary":
        weights = load_file(folder / "model.safetensors")
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            weights[name] = weights[name][:100].clone()
        save_file(weights, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))
    elif how == "no end":
        (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": None}))
    elif how == "strange end":
        (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": 9999}))
    elif how == "another kind":
        (folder / "config.json").write_text(json.dumps({**config, "architectures": ["X"], "model_type": "gpt2"}))
    elif how == "torn tokenizer":
        (folder / "tokenizer.json").write_text('{"model": 1}')


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no tokenizer", r"tokenizer.json is missing; .*save_pretrained"),
        ("no weights", r"model.safetensors is missing"),
        ("a weight missing", r"'model.norm.weight' is missing"),
        ("cut off", r"no whole safetensors file"),
        ("small vocabulary", r"has 360 tokens and config.json a vocab_size of 100"),
        ("no end", r"says which token ends a text"),
        ("strange end", r"eos_token_id 9999 is no token of tokenizer.json"),
        ("another kind", r"model_type 'gpt2'"),
        ("torn tokenizer", r"tokenizer.json is no tokenizer"),
    ],
)
def test_a_folder_that_holds_no_whole_language_model_is_refused(tmp_path: Path, how: str, message: str) -> None:
    write(tmp_path / "given")
    look(tmp_path / "given")
    broken(tmp_path / "given", how)
    with pytest.raises(ManifestError, match=message):
        look(tmp_path / "given")


def test_a_name_of_the_hub_asks_nobody_unless_it_may(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[bool] = []

    def hub(name: str, *, local_files_only: bool, **_: Any) -> str:
        asked.append(local_files_only)
        if local_files_only:
            raise FileNotFoundError("not in the cache")
        return str(tmp_path)

    monkeypatch.setattr(pretrained_language, "snapshot_download", hub)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(
        ManifestError, match=r"owner/llama is neither .*hf download owner/llama --local-dir.*OFFLINE=0"
    ):
        located("owner/llama")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert located("owner/llama") == tmp_path and asked == [True, False]
    with pytest.raises(ManifestError, match="is no folder; put a language model there"):
        located(str(tmp_path / "nothing"))
    assert len(asked) == 2
