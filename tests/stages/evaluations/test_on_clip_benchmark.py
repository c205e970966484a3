"""CLIP_benchmark measures an exported model, and finds what our own numbers say."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_benchmark.metrics.zeroshot_retrieval import evaluate
from safetensors.torch import save_file
from worlds import ListedExamples, coloured, tiny_towers, tokenizer

from stages.evaluation_metrics import recall
from stages.evaluation_retrieval import Judge
from stages.evaluations.on_clip_benchmark import load_internvl, main
from stages.export import Parameters, write
from stages.pairs import Texts


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return exported folders of an InternVL-C and an InternVL-G."""
    found = {}
    for name in ("c", "g"):
        source, target = (tmp_path_factory.mktemp(name) / each for each in ("checkpoint", "export"))
        source.mkdir()
        model = tiny_towers(generative=name == "g", seed=5)
        save_file(model.state_dict(), source / "model.safetensors")
        (source / "config.json").write_text(model.config.model_dump_json())
        tokenizer().save(str(source / "tokenizer.json"))
        write(source, target, Parameters(kind="contrastive"), lambda usage: usage)
        found[name] = target
    return found


@pytest.mark.parametrize("name", ["c", "g"])
def test_retrieval_there_is_retrieval_here(folders: dict[str, Path], name: str) -> None:
    examples = coloured(3)
    pictures = [examples.pictures(number)[0] for number in range(len(examples))]
    model, transform, cut = load_internvl(f"internvl_{name}_retrieval", str(folders[name]))
    batches = [
        (torch.stack([transform(each) for each in pictures[start : start + 5]]), examples.said[start : start + 5])
        for start in range(0, len(pictures), 5)
    ]
    found = evaluate(model, batches, cut, device="cpu", amp=False, recall_k_list=[1, 5])
    judge = Judge(tiny_towers(generative=name == "g", seed=5), Texts(tokenizer(), 80), 4)
    ours = judge.picture_vectors(judge.see(pictures), queries=name == "g")
    with torch.no_grad():
        theirs = torch.cat([model.encode_image(pixels) for pixels, _ in batches]).double().numpy()
    assert np.abs(ours - theirs).max() < 1e-6
    scores = ours @ judge.text_vectors([caption for each in examples.said for caption in each]).T
    right = np.repeat(np.eye(len(pictures), dtype=bool), 2, axis=1)
    for k in (1, 5):
        assert found[f"text_retrieval_recall@{k}"] == pytest.approx(recall(scores, right, k).mean(), abs=1e-6)
        assert found[f"image_retrieval_recall@{k}"] == pytest.approx(recall(scores.T, right.T, k).mean(), abs=1e-6)


def archive(examples: ListedExamples) -> bytes:
    """Return pictures and labels in CLIP_benchmark's layout."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for number in range(len(examples)):
            png = io.BytesIO()
            examples.pictures(number)[0].save(png, "PNG")
            for suffix, body in (("cls", str(examples.label(number)).encode()), ("png", png.getvalue())):
                member = tarfile.TarInfo(f"{number:03d}.{suffix}")
                member.size = len(body)
                tar.addfile(member, io.BytesIO(body))
    return data.getvalue()


def test_its_command_line_classifies_a_webdataset(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = coloured(3)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "0.tar").write_bytes(archive(examples))
    (tmp_path / "test" / "nshards.txt").write_text("1")
    (tmp_path / "classnames.txt").write_text("\n".join(examples.classes))
    (tmp_path / "zeroshot_classification_templates.txt").write_text("a {c} picture")
    monkeypatch.chdir(tmp_path)
    main(
        ["eval", "--model_type", "internvl", "--model", "internvl_c_classification",
         "--pretrained", str(folders["c"]), "--dataset", "wds/plain", "--dataset_root", str(tmp_path),
         "--num_workers", "0", "--no_amp"]
    )  # fmt: skip
    told = json.loads((tmp_path / "plain_internvl_c_classification_en_zeroshot_classification.json").read_text())
    judge = Judge(tiny_towers(seed=5), Texts(tokenizer(), 80), 4)
    model, transform, _ = load_internvl("internvl_c_classification", str(folders["c"]))
    with torch.no_grad():
        vectors = model.encode_image(torch.stack([transform(examples.pictures(n)[0]) for n in range(12)])).numpy()
    chosen = (vectors @ judge.text_vectors([f"a {each} picture" for each in examples.classes]).T).argmax(axis=1)
    assert told["metrics"]["acc1"] == pytest.approx((chosen == np.array(examples.labels)).mean())
    assert told["pretrained"] == str(folders["c"]) and told["model"] == "internvl_c_classification"


def test_a_picture_is_cropped_or_squashed(folders: dict[str, Path]) -> None:
    picture = coloured(1).pictures(0)[0].resize((40, 16))
    picture.paste((0, 0, 0), (0, 0, 12, 16))
    _, squash, _ = load_internvl("internvl_c_retrieval", str(folders["c"]))
    _, crop, _ = load_internvl("internvl_c_classification", str(folders["c"]))
    assert squash(picture).shape == crop(picture).shape == (3, 16, 16)
    assert float(crop(picture)[0].min()) > float(squash(picture)[0].min()) + 1


@pytest.mark.parametrize(
    ("name", "message"),
    [("ViT-B-32", "is none of internvl_c_classification"), ("internvl_g_retrieval", "take internvl_c_retrieval")],
)
def test_what_cannot_be_loaded_is_refused(folders: dict[str, Path], name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_internvl(name, str(folders["c"]))
