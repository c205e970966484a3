"""The tokenizer and the language stage: what they promise, and that learning shows."""

import json
import pickle
from pathlib import Path

import pytest
import torch

from infra.cluster import InlineCluster
from infra.storage import Store
from stages.checkpoints import fetch
from stages.language import LanguageTask, Parameters
from stages.language_data import Piece, scene_texts
from stages.manifest import ManifestError
from stages.materialize import StageSpec, materialize
from stages.tokenizer import BOS_ID, EOS_ID, load_tokenizer, train_tokenizer
from stages.training.schedule import Schedule

SMALL = Parameters(
    documents=400,
    held_out_share=0.1,
    held_out=32,
    vocab_size=400,
    hidden_size=48,
    intermediate_size=96,
    num_hidden_layers=2,
    schedule=Schedule(global_batch_size=32, steps=60, learning_rate=5e-3, warmup_steps=5),
)


def test_the_tokenizer_gives_back_any_text_and_keeps_ideographs_apart() -> None:
    texts = ["zwei grüne Kreise über einem Mond", "图片里有两个红色的圆形。", "two red circles above a moon"] * 20
    tokenizer = train_tokenizer(texts, 400)
    for text in [*texts[:3], "naïve façade 🙂 日本語\n  two  spaces"]:
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text
    assert [tokenizer.token_to_id(t) for t in ("<unk>", "<s>", "</s>")] == [0, BOS_ID, EOS_ID]
    red, circle = (tokenizer.encode(t, add_special_tokens=False).ids for t in ("红", "红色"))
    assert circle[: len(red)] == red, "a merge must not cross two ideographs"
    assert tokenizer.to_str() == train_tokenizer(texts, 400).to_str()


def test_labels_begin_and_end_as_llama_does() -> None:
    task = LanguageTask(SMALL.model_copy(update={"context_length": 512}), scene_texts(0, 50), [])
    batch = task.batches([0, 1, 2], step=0)
    ids, labels = batch["input_ids"], batch["labels"]
    assert ids.shape == labels.shape == batch["places"].shape
    assert (ids[:, 0] == BOS_ID).all()
    for row in range(3):
        real = labels[row] != -100
        assert ids[row][real][-1] == EOS_ID
        assert (ids[row][real] == labels[row][real]).all()


def test_a_batch_maker_travels_without_the_model_and_losses_of_micro_batches_add_up() -> None:
    task = LanguageTask(SMALL, scene_texts(0, 50), [])
    again = pickle.loads(pickle.dumps(task.batches))
    whole = task.batches([3, 9, 4], 0)
    assert all(torch.equal(value, whole[name]) for name, value in again([3, 9, 4], 0).items())
    assert again.facts(9) == ("text-9", "drawn", None)
    expected, totals = task.module(whole), task.module.counts(whole)
    parts = [task.module(task.batches(rows, 0), totals) for rows in ([3], [9, 4])]
    assert sum(part["loss"].item() for part in parts) == pytest.approx(expected["loss"].item(), rel=1e-6)
    assert torch.allclose(torch.cat([part["sample_loss"] for part in parts]), expected["sample_loss"])


def test_training_teaches_and_the_checkpoint_reads_back(store: Store, tmp_path: Path) -> None:
    spec = StageSpec(stage="language", artifact="checkpoints/language@t", parameters=SMALL.model_dump())
    made = materialize(spec, store, InlineCluster())
    curve = made.parts[0].facts["curve"]
    assert curve[-1]["loss"] < 0.5 * curve[0]["loss"]
    folder = fetch(store, made, tmp_path / "checkpoint")
    config = json.loads((folder / "config.json").read_text())["text"]
    assert load_tokenizer(folder / "tokenizer.json").get_vocab_size() == config["vocab_size"]
    assert len((folder / "history.jsonl").read_text().splitlines()) == SMALL.schedule.steps
    assert 0 <= made.totals["text_questions_right"] <= 1
    again = materialize(spec, Store(str(tmp_path / "other")), InlineCluster())
    assert again.digest == made.digest, "same in, same bytes out"


def test_answers_that_are_cut_off_are_not_asked() -> None:
    text = [
        Piece("description", "two red circles\n"),
        Piece("question", "how many? "),
        Piece("answer", "twotwotwo\n"),
    ]

    def measured(context_length: int) -> dict[str, float]:
        task = LanguageTask(SMALL.model_copy(update={"context_length": context_length}), [text] * 40, [text])
        with torch.no_grad():
            return task._measure()

    whole, _ = LanguageTask(SMALL, [text] * 40, []).batches.encode(text)
    assert measured(len(whole))["text_questions_right"] == 0, "an untrained decoder does not know"
    for cut in (2, 9):
        assert measured(max(8, len(whole) - cut)).keys() == {"held_out", "description_loss"}
    assert "text_questions_right" in measured(len(whole)).keys() - measured(8).keys()


def test_a_context_that_ends_before_every_description_is_refused() -> None:
    short = SMALL.model_copy(update={"context_length": 8})
    text = [Piece("prompt", "0123456789 " * 4), Piece("description", "two red circles\n")]
    with pytest.raises(ManifestError, match=r"context_length 8 ends before .* the 1 texts kept aside.*raise it"):
        LanguageTask(short, scene_texts(0, 50), [text])
    task = LanguageTask(short, [text] * 3, [[text[1]], text])
    with torch.no_grad():
        assert task._measure().keys() == {"held_out", "description_loss"}


def test_too_few_captions_are_refused_with_the_next_move(store: Store) -> None:
    with pytest.raises(ManifestError, match="shards/clean"):
        materialize(
            StageSpec(
                stage="language", artifact="checkpoints/language@t", parameters={"documents": 0, "held_out": 5}
            ),
            store,
            InlineCluster(),
        )
