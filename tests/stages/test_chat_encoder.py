"""Text to tokens: pictures are set in without being looked for, and what is remembered stays small."""

import pickle
from pathlib import Path

import pytest
from test_instruct import prepared, small
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from training_data import tiny_tokenizer

from infra.storage import Store
from stages import chat_data
from stages.chat import ChatSession
from stages.chat_assembly import assemble, grow_tokenizer
from stages.chat_data import open_conversations
from stages.chat_encoder import Encoder
from stages.chat_template import IMG_CONTEXT, place_images
from stages.evaluation_held_out import dialogue_held_out
from stages.evaluation_report import Findings

TEXTS = ["What colour is the circle?", "a red circle, a blue square and a <box>[[0, 0, 9, 9]]</box>"]


def pieces_with_spaces(legacy: bool) -> Tokenizer:
    """Return a tokenizer as LLaMA's: a text begins with a space, in the legacy kind each piece does."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    if legacy:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator([*TEXTS, "▁\n"], trainer)
    return tokenizer


TOKENIZERS = {
    "bytes": tiny_tokenizer,
    "first": lambda: pieces_with_spaces(legacy=False),
    "legacy": lambda: pieces_with_spaces(legacy=True),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_text_around_pictures_comes_out_as_in_the_whole(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    grow_tokenizer(tokenizer, "phi3-chat", own=False)
    encode = Encoder(tokenizer)
    for marked in ("<image>\nWhat colour?", "a red <image>square", "<image><image>", "no circle", "\nblue <image>"):
        (text,) = place_images([marked], [5] * marked.count("<image>"))
        whole = f"<|user|>\n{text}<|end|><|assistant|>\n"
        for each in (text, whole):
            assert encode(each) == tokenizer.encode(each, add_special_tokens=False).ids, each
    before = encode("<|user|>\n")
    encode("<|user|>\n").append(0)
    assert encode("<|user|>\n") == before, "what is remembered cannot be changed from outside"


def test_pictures_are_not_remembered() -> None:
    tokenizer = tiny_tokenizer()
    grow_tokenizer(tokenizer, "Hermes-2")
    encode = Encoder(tokenizer)
    (text,) = place_images(["<image>\nWhat colour?"], [4096])
    assert encode(text).count(tokenizer.token_to_id(IMG_CONTEXT)) == 4096
    assert sum(map(len, encode._known)) < 100 and sum(map(len, encode._known.values())) < 100
    assert pickle.loads(pickle.dumps(encode))(text) == encode(text)


def test_an_evaluation_recalls_what_training_wrote_down(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = prepared(store, tmp_path)
    chat, tokenizer = assemble(small(), here)
    data = here.input("conversations")
    open_conversations(here, data, tokenizer, chat.config)
    monkeypatch.setattr(
        chat_data.Conversations, "_measured", lambda self: pytest.fail("everything is rendered again")
    )
    found = Findings()
    dialogue_held_out(ChatSession(chat, tokenizer), here, data, 0.35, 4, found)
    assert found.judged == 4 and len(found.examples) == 4
    assert [name for name, _ in found.examples[0].lines] == ["question", "answer", "the model"]
