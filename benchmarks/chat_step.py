"""One step of the chat stage: conversations packed end to end, padded, and padded in transformers' own InternVL.

All have the same weights (through our export's names and configuration), the same conversations in the same batches,
and must say the same before they are timed. A step makes its batch from conversations, goes forward and backward and
takes a fused AdamW step; fp32, one thread. Lengths are those of a recorded mix at a sixteenth: a tile of 16 tokens
for one of 256. Proportions are those of InternVL2-2B: a tile costs in the encoder what its tokens cost in the
language model, and the vocabulary head an eighth of a token.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import InternVLConfig, InternVLForConditionalGeneration

from benchmarks.chat_lengths import PER_TILE, Recorded, recorded
from benchmarks.timing import interleaved, ratio_of_medians
from models.chat import IGNORE, InternVLChat
from models.config import ChatConfig, TextConfig, VisionConfig
from models.cost import ConversationCost
from models.grad_cache import accumulate
from models.native_config import native_chat_config, native_decoder
from models.objective import Named, totals_of
from models.weights import chat_to_native
from stages.chat_batches import Example, collate, collate_packed
from stages.training.balancing import Load, balanced

CONTEXT, FILLER = 3, 2
SIZE = ChatConfig(
    vision=VisionConfig(
        image_size=112,
        patch_size=14,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        qkv_bias=True,
        qk_normalization=False,
        norm_type="layer_norm",
    ),
    text=TextConfig(
        vocab_size=2048,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
    ),
    image_context_token_id=CONTEXT,
    eos_token_id=FILLER,
)
SCALE = PER_TILE // SIZE.num_image_token
BATCH_SIZE, BATCHES, ROUNDS, PACKS = 16, 2, 7, 4
GOALS = {"padded / packed": 1.5, "transformers / packed": 1.0}
"""How many times the CPU time of ours the others should take."""


def conversations(lengths: Sequence[Recorded], config: ChatConfig, scale: int) -> list[Example]:
    """Return conversations of these lengths over `scale`, their words and pictures drawn."""
    random = torch.Generator().manual_seed(0)
    side, found = config.vision.image_size, []
    for each in lengths:
        text = max(3, round(each.text / scale))
        learned = min(text - 2, max(1, round(each.learned / scale)))
        words = torch.randint(4, config.text.vocab_size, (text,), generator=random).tolist()
        ids = words[:1] + [CONTEXT] * config.num_image_token * each.tiles + words[1:]
        labels = [IGNORE] * (len(ids) - learned) + ids[len(ids) - learned :]
        tiles = torch.randn(each.tiles, 3, side, side, generator=random) if each.tiles else None
        found.append(Example(ids, labels, tiles))
    return found


def native_model(chat: InternVLChat) -> InternVLForConditionalGeneration:
    """Return transformers' model with the same weights, as an exported folder would give it."""
    config = chat.config
    fields = native_chat_config(
        config.vision,
        config.text,
        image_token_id=config.image_context_token_id,
        downsample_ratio=config.downsample_ratio,
        ps_version=config.ps_version,
        select_layer=config.select_layer,
        eos_token_id=config.eos_token_id,
        bos_token_id=1,
        pad_token_id=config.eos_token_id,
    )
    weights = chat_to_native(chat.state_dict(), native_decoder(config.text))
    copied = {name: value.clone() for name, value in weights.items()}
    native = InternVLForConditionalGeneration.from_pretrained(
        None, config=InternVLConfig(**fields), state_dict=copied, attn_implementation="sdpa"
    )
    return native.train()  # type: ignore[no-any-return]


def packs_of(batch: Sequence[Example], config: ChatConfig, packs: int) -> list[list[Example]]:
    """Return a batch as packs of like cost, as the training loop shares it out."""
    cost = ConversationCost.of(config)
    loads = []
    for each in batch:
        tiles = 0 if each.pixel_values is None else len(each.pixel_values)
        size = (len(each.input_ids), tiles, len(each.labels) - each.labels.count(IGNORE))
        loads.append(Load(cost(*size), size[0], tiles))
    return [[batch[place] for place in pack] for pack in balanced(loads, 1, packs)[0]]


class Trained:
    """A model with its optimizer, and how it computes a batch of conversations."""

    def __init__(self, model: nn.Module, backward: Callable[[nn.Module, Sequence[Example]], float]) -> None:
        """Take a model of its own."""
        self.model, self._backward = model, backward
        # As large as a fine-tuning rate, so that the weights and with them the work stay ordinary.
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def gradients(self, batch: Sequence[Example]) -> float:
        """Leave the gradients of a batch, and return its loss."""
        return self._backward(self.model, batch)

    def step(self, batch: Sequence[Example]) -> None:
        """Train on a batch."""
        self.gradients(batch)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)


def ours(make: Callable[[Sequence[Example]], list[Named]]) -> Callable[[nn.Module, Sequence[Example]], float]:
    """Return how our model computes a batch that `make` turns into micro batches."""

    def backward(model: nn.Module, batch: Sequence[Example]) -> float:
        made = make(batch)
        totals = totals_of(model, made)  # type: ignore[arg-type]
        return float(accumulate(model, made, totals, Tensor.backward, torch.enable_grad)["loss"])

    return backward


def theirs(model: nn.Module, batch: Sequence[Example]) -> float:
    """Compute a batch in transformers' model."""
    loss = model(**collate(batch, FILLER), use_cache=False).loss
    loss.backward()
    return float(loss.detach())


def candidates(config: ChatConfig, packs: int = PACKS) -> dict[str, Trained]:
    """Return what is compared, each with a model of its own of equal weights."""
    torch.manual_seed(0)
    first = InternVLChat(config).train()

    def copied() -> InternVLChat:
        model = InternVLChat(config).train()
        model.load_state_dict(first.state_dict())
        return model

    def in_packs(batch: Sequence[Example]) -> list[Named]:
        return [collate_packed(pack) for pack in packs_of(batch, config, packs)]

    return {
        "packed": Trained(copied(), ours(lambda batch: [collate_packed(batch)])),
        f"packed, {packs} packs": Trained(copied(), ours(in_packs)),
        "padded": Trained(copied(), ours(lambda batch: [collate(batch, FILLER)])),
        "transformers": Trained(native_model(first), theirs),
    }


def must_agree(found: dict[str, Trained], batch: Sequence[Example]) -> None:
    """Refuse to time what does not compute the same.

    Raises:
        RuntimeError: A loss or the gradient's norm differs.
    """
    told = {}
    for name, each in found.items():
        loss = each.gradients(batch)
        gradients = [value.grad for value in each.model.parameters() if value.grad is not None]
        told[name] = (loss, float(nn.utils.get_total_norm(gradients)))
        each.model.zero_grad(set_to_none=True)
    wanted = told["packed"]
    for name, numbers in told.items():
        if not np.allclose(numbers, wanted, rtol=1e-4):
            raise RuntimeError(f"{name} has loss and gradient {numbers}, packed {wanted}; time means nothing")


def measure(
    config: ChatConfig = SIZE,
    rows: int = BATCH_SIZE,
    batches: int = BATCHES,
    rounds: int = ROUNDS,
    scale: int = SCALE,
) -> dict[str, Any]:
    """Return CPU seconds of some steps, useful tokens per second, and how many times ours the others take.

    Returns:
        `cpu_seconds` by candidate (medians over rounds of `batches` steps); `tokens_per_core_second`, those of
        conversations alone; `places_used`, the share of computed places that hold one; `ratios`, each with `ratio`,
        `low`, `high` (95 % bootstrap) and `goal`.
    """
    torch.set_num_threads(1)
    examples = conversations(recorded()[: rows * batches], config, scale)
    cut = [examples[start : start + rows] for start in range(0, len(examples), rows)]
    found = candidates(config)
    must_agree(found, cut[0])

    def steps(trained: Trained) -> None:
        for batch in cut:
            trained.step(batch)

    seconds = interleaved({name: partial(steps, each) for name, each in found.items()}, rounds, dropped=1)
    tokens = sum(len(each.input_ids) for each in examples)
    padded = sum(len(batch) * max(len(each.input_ids) for each in batch) for batch in cut)
    ratios = {}
    for name in (*GOALS, *(f"{other} / packed" for other in found if other.startswith("packed, "))):
        slow, fast = name.split(" / ")
        ratio, low, high = ratio_of_medians(seconds[slow], seconds[fast])
        ratios[name] = {"ratio": round(ratio, 2), "low": round(low, 2), "high": round(high, 2)}
        ratios[name]["goal"] = GOALS.get(name)  # type: ignore[assignment]
    return {
        "cpu_seconds": {name: round(float(np.median(each)), 4) for name, each in seconds.items()},
        "tokens_per_core_second": {name: round(tokens / float(np.median(each))) for name, each in seconds.items()},
        "places_used": {"packed": 1.0, "padded": round(tokens / padded, 3)},
        "ratios": ratios,
        "batch_size": rows,
        "batches": batches,
        "rounds": rounds,
        "size": config.model_dump(),
    }
