"""The generative objective: equal to the plain three passes, whatever the micro batches and the processes."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from generative_world import ROWS, double_rotary, fitted, gradients, make_batch, make_model, pieces, worst
from torch import Tensor

from models.frozen_towers import FrozenTowers, Seen
from models.generative_objective import GenerativeObjective, by_length, freeze, is_trained
from models.grad_cache import accumulate
from models.internvl import InternVL
from models.negatives import GIVEN
from models.objective import totals_of
from models.plain_generative import PlainGenerativeObjective
from models.sizes import INTERNVL_14B

LOSSES = ("loss", "itc", "itm", "itg")
Batch = dict[str, Tensor]


def step(objective: GenerativeObjective | PlainGenerativeObjective, batches: list[Batch]) -> tuple[Batch, Batch]:
    """Return losses and gradients of one step."""
    objective.zero_grad(set_to_none=True)
    losses = accumulate(objective, batches, totals_of(objective, batches), Tensor.backward, nullcontext)
    return losses, gradients(objective.model)


def chosen(objective: GenerativeObjective, batch: Batch) -> Batch:
    """Return the pairs that the objective would judge."""
    with torch.no_grad():
        return objective.joint(objective(batch, call="embed")).context


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_the_shared_pass_equals_three_passes(
    dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dtype == torch.float64:
        monkeypatch.setattr("models.qllama.rotary", double_rotary)
    fast, batch = GenerativeObjective(make_model(dtype)), make_batch(dtype=dtype)
    losses, found = step(fast, [batch])
    plain = PlainGenerativeObjective(fast.model)
    expected, wanted = step(plain, [batch | chosen(fast, batch)])
    for name in LOSSES:
        assert losses[name].item() == pytest.approx(expected[name].item(), rel=tolerance), name
    assert worst(found, wanted) <= (tolerance if dtype == torch.float64 else 5 * tolerance)
    assert set(found) == {name for name, _ in fast.model.named_parameters() if is_trained(name)}


@pytest.mark.parametrize("further", [{}, {"image_negatives": True}, {"paired": True}])
def test_micro_batches_change_nothing(further: dict[str, bool]) -> None:
    objective, batch = GenerativeObjective(make_model(), **further), make_batch()
    whole, wanted = step(objective, [batch])
    for sizes in ([6, 6], [5, 3, 4]):
        losses, found = step(objective, pieces(batch, sizes))
        assert worst(found, wanted) <= 2e-5, sizes
        for name in (*LOSSES, "itm_right"):
            assert losses[name].item() == pytest.approx(whole[name].item(), rel=1e-5), (sizes, name)
        assert torch.allclose(losses["sample_loss"], whole["sample_loss"], rtol=1e-5)
    assert not len(objective._seen), "what was kept for replays is gone after them"


def test_two_micro_batches_of_the_same_samples_pass_the_towers_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """With sharded weights each pass is one that all processes make, whatever samples each of them has."""
    objective, passes = GenerativeObjective(make_model()), []
    towers = FrozenTowers.__call__

    def counted(self: FrozenTowers, batch: Batch) -> Seen:
        passes.append("replayed" if torch.is_grad_enabled() else "first")
        return towers(self, batch)

    monkeypatch.setattr(FrozenTowers, "__call__", counted)
    first, second = (pieces(make_batch(), [6, 6])[0] for _ in range(2))
    step(objective, [first, second])
    assert passes == ["first", "first"], "once for each micro batch, and not again in its replay"


def test_a_batch_that_is_cut_is_another_contrast() -> None:
    """Micro batches that each contrast alone would be noticed."""
    plain, batch = PlainGenerativeObjective(make_model()), make_batch()
    batch |= chosen(GenerativeObjective(plain.model), batch)
    whole, halves = (step(plain, each)[0]["itc"].item() for each in ([batch], pieces(batch, [6, 6])))
    assert halves != pytest.approx(whole, rel=1e-2)


def test_wrong_pictures_are_judged_too() -> None:
    model, batch = make_model(), make_batch()
    one, both = (GenerativeObjective(model, image_negatives=wanted) for wanted in (False, True))
    alone, found, pairs = step(one, [batch])[0], step(both, [batch])[0], chosen(both, batch)
    row, place = pairs["sent_attention_mask"].any(dim=2).nonzero(as_tuple=True)
    assert len(row) == ROWS, "each caption is judged once more"
    ids, mask = (pairs[f"sent_{each}"][row, place] for each in ("input_ids", "attention_mask"))
    with torch.no_grad():
        vision = model.see(batch["pixel_values"])
        logits = model.match(vision[row], ids, mask)
    extra = torch.nn.functional.cross_entropy(logits, pairs["sent_labels"][row, place])
    assert not pairs["sent_labels"].any()
    assert found["itm"].item() == pytest.approx((alone["itm"].item() + extra.item()) / 2, rel=1e-5)
    assert found["itc"].item() == alone["itc"].item() and found["itg"].item() == alone["itg"].item()


def test_padding_changes_nothing() -> None:
    objective, batch = GenerativeObjective(make_model()), make_batch()
    wider = {
        name: torch.nn.functional.pad(value, (0, 2), value=-100 if "labels" in name else 0)
        if value.ndim == 2 and name != "uniform" and "caption" not in name and "other" not in name
        else value
        for name, value in batch.items()
    }
    assert wider["prompted_input_ids"].shape[1] == fitted(wider)["prompted_input_ids"].shape[1] + 2
    (one, first), (other, second) = step(objective, [batch]), step(objective, [wider])
    assert one["loss"].item() == pytest.approx(other["loss"].item(), rel=1e-6) and worst(second, first) <= 1e-5


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    objective = GenerativeObjective(make_model(), image_negatives=True)
    half = pieces(make_batch(), [ROWS // 2, ROWS // 2])[rank]
    losses, found = step(objective, [half])
    replayed, again = step(objective, pieces(half, [4, 2]))
    torch.save([chosen(objective, half), losses, found, replayed, again], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_judge_the_pairs_and_have_the_gradients_of_one(tmp_path: Path) -> None:
    mp.spawn(_worker, args=(str(tmp_path),), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    objective, batch = GenerativeObjective(make_model(), image_negatives=True), make_batch()
    pairs, (losses, found) = chosen(objective, batch), step(objective, [batch])
    for name in GIVEN:
        assert torch.equal(torch.cat([each[0][name] for each in ranks]), pairs[name]), name
    assert sent(pairs) == [*sent(ranks[0][0]), *sent(ranks[1][0])]
    for at in (1, 3):  # in one piece, and in micro batches
        for name in LOSSES:
            mean = (ranks[0][at][name] + ranks[1][at][name]) / 2
            assert mean.item() == pytest.approx(losses[name].item(), rel=1e-5), name
        mean_gradients = {name: (ranks[0][at + 1][name] + ranks[1][at + 1][name]) / 2 for name in found}
        assert worst(mean_gradients, found) <= 2e-5


def sent(pairs: Batch) -> list[list[list[int]]]:
    """Return the captions that were sent to each picture, padding left out."""
    return [
        [ids[mask.bool()].tolist() for ids, mask in zip(row, masks, strict=True) if mask.any()]
        for row, masks in zip(pairs["sent_input_ids"], pairs["sent_attention_mask"], strict=True)
    ]


def test_frozen_means_frozen() -> None:
    objective, batch = GenerativeObjective(make_model()), make_batch()
    model = objective.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=0.01)
    for _ in range(2):
        _, found = step(objective, [batch])
        optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if is_trained(name)} == set(found)
    assert len(optimizer.state) == len(found)


def test_the_paper_trains_a_billion_weights() -> None:
    with torch.device("meta"):
        model = InternVL(INTERNVL_14B)
        freeze(model)
    assert sum(each.numel() for each in model.parameters() if each.requires_grad) == 1_010_334_467


def test_one_batch_is_learned_by_heart() -> None:
    objective, batch = GenerativeObjective(make_model()), make_batch()
    optimizer = torch.optim.AdamW([each for each in objective.parameters() if each.requires_grad], lr=0.02)
    for _ in range(80):
        losses, _ = step(objective, [batch])
        optimizer.step()
        objective.after_step()
    assert losses["itm"] < 0.05 and losses["itm_right"] == 1


def test_texts_of_a_length_share_a_pass() -> None:
    groups = by_length(torch.tensor([5, 2, 9, 2, 7]), 2)
    assert [group.tolist() for group in groups] == [[1, 3, 0], [4, 2]]
