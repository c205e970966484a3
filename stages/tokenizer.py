"""A tokenizer of our own, where no pre-trained language model brings one: byte-level BPE.

Chinese and Japanese characters are set apart before merging: without spaces a merge could
cross word borders and swallow two words into one token.
"""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from stages.chat_template import GROUNDING

UNK, BOS, EOS = "<unk>", "<s>", "</s>"
UNK_ID, BOS_ID, EOS_ID = 0, 1, 2
_IDEOGRAPH = r"[\p{Han}\p{Hiragana}\p{Katakana}]"


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Return a tokenizer whose first three ids are those of LLaMA: unknown, begin, end.

    Args:
        texts: What to learn merges from; the same texts in the same order give the same tokenizer.
        vocab_size: Most entries; the 256 bytes and the three special tokens are always among them.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_IDEOGRAPH), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[UNK, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def steering_tokens(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return the special tokens of a tokenizer that nobody may say; a place in a picture may be named."""
    added = tokenizer.get_added_tokens_decoder().values()
    return tuple(each.content for each in added if each.special and each.content not in GROUNDING)


def load_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer of a checkpoint, from its `tokenizer.json`."""
    return Tokenizer.from_file(str(path))
