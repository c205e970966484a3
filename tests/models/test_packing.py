"""Several samples in a row give what each gives alone, and know nothing of each other."""

import pytest
import torch

from models.attention import using
from models.chat import IGNORE, InternVLChat
from models.config import ChatConfig
from models.packing import Packing, learned_places, loss_weights
from models.qllama import LlamaForCausalLM

CONTEXT = 39
SAMPLES = [[5, *[CONTEXT] * 4, 6, 7, 8, 9], [11, 12, 13], [3, 14, *[CONTEXT] * 4, 15, 16, 17, 18, 19]]
ANSWERS = [3, 1, 4]  # last tokens of each that are learned


def model_of(key_heads: int = 2) -> InternVLChat:
    torch.manual_seed(0)
    vision = {"image_size": 16, "patch_size": 4, "hidden_size": 24, "num_hidden_layers": 2}
    text = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config = {
        "vision": {**vision, "num_attention_heads": 2, "intermediate_size": 32, "initializer_factor": 1.0},
        "text": {**text, "num_attention_heads": 4, "num_key_value_heads": key_heads},
        "image_context_token_id": CONTEXT,
        "eos_token_id": 2,
    }
    model = InternVLChat(ChatConfig.model_validate(config)).eval()
    with torch.no_grad():  # as large as trained weights, so that what is seen matters
        for parameter in model.language_model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    return model


def pictures() -> torch.Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def rows_of(rows: list[list[int]], padding: int = 2) -> dict[str, torch.Tensor]:
    """Return samples packed into rows, padded at the end with a sample of its own."""
    width = max(sum(len(SAMPLES[n]) for n in row) for row in rows) + padding
    batch: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "sample_index": []}
    for row in rows:
        ids: list[int] = []
        labels: list[int] = []
        index: list[int] = []
        for number in row:
            sample, learned = SAMPLES[number], ANSWERS[number]
            ids += sample
            labels += [IGNORE] * (len(sample) - learned) + sample[-learned:]
            index += [number] * len(sample)
        rest = width - len(ids)
        batch["input_ids"].append(ids + [2] * rest)
        batch["labels"].append(labels + [IGNORE] * rest)
        batch["sample_index"].append(index + [-1] * rest)
    return {name: torch.tensor(values) for name, values in batch.items()}


def alone(number: int) -> dict[str, torch.Tensor]:
    batch = rows_of([[number]], padding=0)
    del batch["sample_index"]
    return batch


def pixels_of(number: int) -> torch.Tensor | None:
    return {0: pictures()[:1], 1: None, 2: pictures()[1:]}[number]


def logits(model: InternVLChat, batch: dict[str, torch.Tensor], pixels: torch.Tensor | None) -> torch.Tensor:
    ids = batch["input_ids"]
    return model.logits(ids, torch.ones_like(ids), pixels, sample_index=batch.get("sample_index"))


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return bool((ours - theirs).abs().max() <= 1e-5 * theirs.abs().max())


@pytest.mark.parametrize("implementation", ["auto", "reference"])
@pytest.mark.parametrize(("rows", "key_heads"), [([[0, 1, 2]], 4), ([[0, 1, 2]], 2), ([[0, 1], [2]], 2)])
def test_packed_logits_are_those_of_each_sample_alone(
    rows: list[list[int]], key_heads: int, implementation: str
) -> None:
    model, batch = model_of(key_heads), rows_of(rows)
    with using(implementation):  # type: ignore[arg-type]
        found = logits(model, batch, pictures())
        for number in range(3):
            wanted = logits(model, alone(number), pixels_of(number))[0]
            assert close(found[batch["sample_index"] == number], wanted), number
    unaware = logits(model, {"input_ids": batch["input_ids"]}, pictures())
    last = rows[0][-1]
    assert not torch.allclose(
        unaware[0][batch["sample_index"][0] == last], found[0][batch["sample_index"][0] == last]
    )


def test_packed_loss_and_gradients_are_those_of_the_samples() -> None:
    model, batch = model_of(), rows_of([[0, 1, 2]])
    names = [
        "vision_model.embeddings.patch_embedding.weight",
        "language_model.model.layers.0.self_attn.k_proj.weight",
    ]
    wanted = torch.zeros(())
    for number in range(3):
        pixels = {} if number == 1 else {"pixel_values": pixels_of(number)}
        loss = model({**alone(number), **pixels})["loss"]
        wanted = wanted + loss * ANSWERS[number] / sum(ANSWERS)
        # Of one sample alone, by hiding the others' labels.
        hidden = batch["labels"].masked_fill(batch["sample_index"] != number, IGNORE)
        own = model({**batch, "labels": hidden, "pixel_values": pictures()})["loss"]
        assert close(own, loss), number
    wanted.backward()
    expected = [model.get_parameter(name).grad for name in names]
    model.zero_grad()
    found = model({**batch, "pixel_values": pictures()})["loss"]
    assert close(found, wanted)
    found.backward()
    for name, gradient in zip(names, expected, strict=True):
        own_gradient = model.get_parameter(name).grad
        assert gradient is not None and own_gradient is not None and close(own_gradient, gradient), name


def test_a_sample_does_not_feel_another_at_all() -> None:
    model, batch = model_of(), rows_of([[0, 1, 2]])
    before = logits(model, batch, pictures())
    changed = {**batch, "input_ids": batch["input_ids"].clone()}
    changed["input_ids"][0, 5:9] = torch.tensor([20, 21, 22, 23])
    other = pictures()
    other[0] += 1
    after = logits(model, changed, other)
    theirs = batch["sample_index"] != 0
    assert torch.equal(before[theirs], after[theirs])
    assert not torch.equal(before[~theirs], after[~theirs])
    other[0] = float("nan")  # even what is no number stays with its sample
    after = logits(model, changed, other)
    assert torch.equal(before[theirs], after[theirs]) and after[~theirs].isnan().any()


def test_the_first_token_of_a_sample_is_nobodys_to_predict() -> None:
    labels = torch.tensor([[7, 7, 7, 7, IGNORE, 7]])
    index = torch.tensor([[0, 0, 1, 1, 1, 1]])
    assert learned_places(labels, index, IGNORE).tolist() == [[True, False, True, False, True]]
    assert learned_places(labels, None, IGNORE).tolist() == [[True, True, True, False, True]]


def test_weights_let_long_answers_count_less() -> None:
    labels = torch.tensor([[IGNORE, 7, 7, 7, 7, IGNORE, IGNORE, 7]])
    index = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1]])
    learned = learned_places(labels, index, IGNORE)
    for reduction, weight in (("token", 1.0), ("sample", 1 / 4), ("square", 1 / 2)):
        found = loss_weights(learned, index, reduction)  # type: ignore[arg-type]
        assert found.tolist() == [[weight] * 4 + [0, 0, 1]], reduction


def test_a_number_names_a_sample_within_its_row_only() -> None:
    learned = torch.tensor([[True, True, False, True], [True, True, True, False]])
    index = torch.tensor([[3, 3, 3, 9, 9], [9, 9, 9, -1, -1]])
    # Row 0: sample 3 learns at two places, 9 at one; row 1: another 9 at two, and -1 at one.
    found = loss_weights(learned, index, "sample")
    assert found.tolist() == [[0.5, 0.5, 0, 1], [0.5, 0.5, 1, 0]]


def test_weighted_loss_is_the_weighted_mean_of_the_samples() -> None:
    model, batch = model_of(), {**rows_of([[0, 1, 2]]), "pixel_values": pictures()}
    learned = learned_places(batch["labels"], batch["sample_index"], IGNORE)
    each = []
    for number in range(3):
        pixels = {} if number == 1 else {"pixel_values": pixels_of(number)}
        each.append(model({**alone(number), **pixels})["loss"].item())
    for reduction, power in (("token", 1.0), ("sample", 0.0), ("square", 0.5)):
        weights = loss_weights(learned, batch["sample_index"], reduction)  # type: ignore[arg-type]
        found = model({**batch, "loss_weights": weights})["loss"].item()
        parts = [count**power for count in ANSWERS]
        wanted = sum(part * loss for part, loss in zip(parts, each, strict=True)) / sum(parts)
        assert found == pytest.approx(wanted, rel=1e-5), reduction


def test_a_packing_knows_its_samples() -> None:
    packing = Packing.of(torch.tensor([[0, 0, 0, 1], [5, 3, 3, 3]]))
    assert packing.lengths == (3, 1, 1, 3) and packing.longest == 3
    assert packing.starts.tolist() == [0, 3, 4, 5, 8] and packing.starts.dtype == torch.int32
    assert packing.positions.tolist() == [[0, 1, 2, 0], [0, 0, 1, 2]]
    with pytest.raises(ValueError, match="sample of row 0 lies in two places"):
        Packing.of(torch.tensor([[0, 1, 0]]))
    with pytest.raises(ValueError, match="not \\(batch, tokens\\)"):
        Packing.of(torch.tensor([0, 1]))


def test_a_padded_batch_end_to_end_is_one_row_of_its_samples() -> None:
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]])
    index = torch.arange(3)[:, None].expand_as(mask)[mask.bool()][None]
    found, wanted = Packing.end_to_end(mask), Packing.of(index)
    assert found.lengths == wanted.lengths == (2, 4, 1)
    assert torch.equal(found.starts, wanted.starts) and found.starts.dtype == torch.int32
    assert torch.equal(found.positions, wanted.positions)
    with pytest.raises(ValueError, match="sample 1 of the batch has no token"):
        Packing.end_to_end(torch.tensor([[1, 0], [0, 0]]))


def test_samples_of_equal_length_lie_side_by_side_and_go_back() -> None:
    packing = Packing.of(torch.tensor([[0, 0, 1, 2, 2], [0, 1, 1, 2, 2]]))
    order, back, groups = packing.by_length
    assert groups == ((2, 4), (1, 2))
    assert order.tolist() == [0, 1, 3, 4, 6, 7, 8, 9, 2, 5]
    assert torch.equal(order[back], torch.arange(10))


def test_packed_rows_are_not_gone_on_from() -> None:
    model = model_of().language_model
    assert isinstance(model, LlamaForCausalLM)
    embedded = model.model.embed_tokens(torch.tensor([[3, 4, 5]]))
    packing = Packing.of(torch.tensor([[0, 0, 1]]))
    _, cache = model.model(embedded)
    with pytest.raises(ValueError, match="neither a cache nor queries"):
        model.model(embedded, packing=packing, past=cache)
    with pytest.raises(ValueError, match="a mask or a packing"):
        model.model(embedded, torch.ones(1, 1, 3, 3, dtype=torch.bool), packing=packing)


def test_checkpointing_gives_the_same_gradients_packed_or_not() -> None:
    model = model_of()
    packed = {**rows_of([[0, 1, 2]]), "pixel_values": pictures()}
    for batch in (packed, {name: value for name, value in packed.items() if name != "sample_index"}):
        found = []
        for switch in (False, True):
            model.vision_model.gradient_checkpointing = model.language_model.model.gradient_checkpointing = switch
            model.zero_grad()
            model(batch)["loss"].backward()
            found.append({name: parameter.grad for name, parameter in model.named_parameters()})
        for name, gradient in found[0].items():
            other = found[1][name]
            assert gradient is not None and other is not None and torch.equal(gradient, other), name
