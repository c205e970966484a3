"""What frozen towers say of a sample: the same bits in any company, kept or computed anew."""

import torch
from generative_world import ROWS, fitted, make_batch, make_model

from models.frozen_towers import PICTURES, FrozenTowers, Memory


def piece(rows: list[int]) -> dict[str, torch.Tensor]:
    return fitted({name: value[rows] for name, value in make_batch().items()})


def test_a_sample_has_the_same_bits_in_any_company_kept_or_not() -> None:
    model, rows = make_model(), [4, 1, 9]
    kept = FrozenTowers(model, vision_bytes=1 << 20, text_bytes=1 << 20)
    kept(piece(list(range(ROWS))))
    assert len(kept.visions) == len(kept.texts) == ROWS
    known = kept(piece(rows))
    for other in ([9, 4, 1], [1, 7, 4, 9, 0, 2, 3, 5, 6, 8, 11], rows):
        found = FrozenTowers(model, vision_bytes=0, text_bytes=0)(piece(other))
        for one, again in zip(known, found, strict=True):
            assert torch.equal(one, again[[other.index(row) for row in rows]])


def test_they_say_what_the_model_says() -> None:
    model, batch = make_model(), make_batch()
    found = FrozenTowers(model, 0, 0)(batch)
    with torch.no_grad():
        vision = model.see(batch["pixel_values"])
        text = model.encode_text(batch["summary_input_ids"], batch["summary_attention_mask"])
    expected = (vision, model.pool_image(vision), text)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(found, expected, strict=True))
    assert not any(each.requires_grad for each in found)


def test_what_is_known_does_not_pass_again() -> None:
    model, passes = make_model(), []
    model.vision_model.register_forward_pre_hook(lambda _, given: passes.append(given[0].shape[0]))
    towers = FrozenTowers(model, vision_bytes=1 << 20, text_bytes=0)
    towers(piece([0, 1, 2]))
    towers(piece([2, 0, 5]))
    towers(piece([1, 5]))
    assert passes == [PICTURES, PICTURES], "two passes of one shape, for 0, 1, 2 and for 5"


def test_memory_has_an_end_and_holds_no_more_than_it_says() -> None:
    memory, whole = Memory(room_bytes=100), torch.arange(60.0).view(3, 20)
    for row in range(3):
        memory.keep(row, (whole[row],))
    assert len(memory) == 1 and memory.get(2) is None
    (found,) = memory.get(0) or ()
    assert torch.equal(found, whole[0]) and found.untyped_storage().nbytes() == 80
