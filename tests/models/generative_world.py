"""A small InternVL-G, and batches of the generative stage with captions and pictures that stand in them twice."""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.config import InternVLConfig, TextConfig, VisionConfig
from models.internvl import InternVL
from models.losses import IGNORE
from models.negatives import MINED, OTHER, OWN
from models.rotary import Turn

ROWS = 12
CONFIG = InternVLConfig(
    vision=VisionConfig(
        image_size=16,
        patch_size=8,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=32,
        initializer_factor=1.0,
    ),
    text=TextConfig(vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4),
    embed_dim=16,
    attn_pool_num_heads=4,
    num_query_token=3,
    cross_attention_frequency=2,
    context_length=14,
    label_smoothing=0.1,
)


def make_model(dtype: torch.dtype = torch.float32) -> InternVL:
    """Return a model all of whose weights matter: none is nought, norms and biases included."""
    torch.manual_seed(3)
    model = InternVL(CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        model.logit_scale.fill_(2.0)
    return model.to(dtype)


def make_batch(rows: int = ROWS, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Return a batch in which rows 1 and 7 have the same caption, and rows 2 and 3 the same picture."""
    random = torch.Generator().manual_seed(5)
    pixels = torch.randn(rows, 3, 16, 16, generator=random)
    pixels[3] = pixels[2]
    words = [
        torch.randint(3, 40, (int(size),), generator=random)
        for size in torch.randint(2, 9, (rows,), generator=random)
    ]
    words[7] = words[1]
    caption_id = torch.arange(rows) + 100
    caption_id[7] = caption_id[1]
    image_id = torch.arange(rows) + 500
    image_id[3] = image_id[2]
    other = [words[(row + 5) % rows] for row in range(rows)]
    batch = {
        "row": torch.arange(rows) * 3,
        "pixel_values": pixels.to(dtype),
        "image_id": image_id,
        "caption_id": caption_id,
        "other_id": caption_id.roll(-5),
        "judged": torch.tensor([(OWN, MINED, OTHER, MINED)[row % 4] for row in range(rows)]),
        "uniform": torch.rand(rows, 2, generator=random, dtype=torch.float64),
    }
    for name, front in {"summary": [7, 8], "caption": [], "other": [], "prompted": [9]}.items():
        texts = other if name == "other" else words
        ids, mask = padded([[1, *front, *text.tolist(), 2] for text in texts])
        batch |= {f"{name}_input_ids": ids, f"{name}_attention_mask": mask}
    labels = batch["prompted_input_ids"].masked_fill(batch["prompted_attention_mask"] == 0, IGNORE)
    labels[:, :2] = IGNORE
    return batch | {"prompted_labels": labels}


def padded(texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return ids and mask, padded on the right by a word that would be noticed."""
    longest = max(map(len, texts))
    ids = torch.tensor([[*text, *[39] * (longest - len(text))] for text in texts])
    mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
    return ids, mask


def pieces(batch: dict[str, Tensor], sizes: Sequence[int]) -> list[dict[str, Tensor]]:
    """Return a batch cut into micro batches, each padded to its own longest text as a batch maker does."""
    return [
        fitted({name: value[sum(sizes[:number]) : sum(sizes[: number + 1])] for name, value in batch.items()})
        for number in range(len(sizes))
    ]


def fitted(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a batch without the columns that only padding uses."""
    widths = {
        name.rpartition("_attention")[0]: int(value.sum(1).max()) for name, value in batch.items() if "mask" in name
    }
    found = dict(batch)
    for name, width in widths.items():
        for each in (f"{name}_input_ids", f"{name}_attention_mask", f"{name}_labels"):
            if each in found and found[each].ndim == 2:
                found[each] = found[each][:, :width]
    return found


def double_rotary(config: TextConfig, positions: Tensor, lengths: Tensor) -> Turn:
    """Return rotary positions in double precision: a text that begins at 0 or after queries then is the same."""
    powers = torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim
    angles = positions[..., None].double() / config.rope_theta**powers
    angles = torch.cat([angles, angles], dim=-1)[:, None]
    return angles.cos(), angles.sin()


def gradients(model: InternVL) -> dict[str, Tensor]:
    """Return the gradients that there are, by name."""
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def worst(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Return the largest difference of tensors relative to the largest number of each; all must be in both.

    What is a thousandth of the largest of all may be rounding: a shift of all keys of the pooling changes no
    softmax, so its gradient is nought.
    """
    assert one.keys() == other.keys()
    least = max(float(each.abs().max()) for each in other.values()) / 1000
    return max(float((one[n] - other[n]).abs().max() / other[n].abs().max().clamp(min=least)) for n in one)
