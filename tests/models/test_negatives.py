"""Who is judged with whom."""

import torch
import torch.nn.functional as F
from generative_world import ROWS, make_batch

from models.negatives import MINED, OTHER, OWN, Negatives, Pairs

TOKENS = 14


def features(judged: int, **changed: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return features in which the text of row r + 1 looks right for the picture of row r."""
    batch = make_batch() | {"judged": torch.full((ROWS,), judged)} | changed
    image = torch.eye(ROWS)
    text = image.roll(-1, dims=0).T.contiguous()
    return Negatives(50.0).features(batch, TOKENS) | {"image": image, "text": text}


def captions(ids: torch.Tensor) -> list[list[int]]:
    return [[token for token in row if token] for row in ids.tolist()]


def test_own_other_and_mined_captions() -> None:
    batch, negatives = make_batch(), Negatives(50.0)
    own = captions(F.pad(batch["caption_input_ids"] * batch["caption_attention_mask"], (0, 1)))
    for judged, wanted, right in ((OWN, 0, 1), (OTHER, 5, 0)):
        found = negatives.choose(features(judged))
        assert captions(found["itm_input_ids"]) == [own[(row + wanted) % ROWS] for row in range(ROWS)]
        assert found["itm_labels"].tolist() == [right] * ROWS
        assert found["itm_attention_mask"].sum(dim=1).tolist() == [
            len(each) for each in captions(found["itm_input_ids"])
        ]
    scores = (features(MINED)["image"] @ features(MINED)["text"].T).argmax(dim=1).tolist()
    mined = captions(negatives.choose(features(MINED))["itm_input_ids"])
    for row in range(ROWS):
        likely = scores[row]
        # Rows 2 and 3 show the same picture: neither's caption is wrong for the other.
        assert (mined[row] == own[likely]) == ({row, likely} != {2, 3}), row


def test_an_equal_caption_is_never_wrong() -> None:
    alike = torch.full((ROWS,), 7)
    found = Negatives(50.0, pictures=True).choose(features(MINED, caption_id=alike, other_id=alike))
    assert found["itm_labels"].tolist() == [1] * ROWS, "nothing is left that is wrong: all are right"
    pairs = Pairs.of(found)
    assert len(pairs.labels) == 2 * ROWS and bool(pairs.labels.all())
    assert pairs.pictures.tolist() == [*range(ROWS), *range(ROWS)]


def test_likely_pictures_get_the_caption() -> None:
    found = Negatives(50.0, pictures=True).choose(features(OWN))
    pairs, own = Pairs.of(found), captions(features(OWN)["caption"][:, 2:])
    looks = (features(OWN)["text"] @ features(OWN)["image"].T).argmax(dim=1).tolist()
    sent = {
        (picture, tuple(ids))
        for picture, ids in zip(pairs.pictures[ROWS:].tolist(), captions(pairs.input_ids[ROWS:]), strict=True)
    }
    expected = {(looks[row], tuple(own[row])) for row in range(ROWS) if {row, looks[row]} != {2, 3}}
    assert expected <= sent and not pairs.labels[ROWS:].any() and len(pairs.labels) == 2 * ROWS


def test_in_pairs_each_picture_is_judged_with_its_own_caption_besides() -> None:
    alone, paired = (Negatives(50.0, paired=each).choose(features(OTHER)) for each in (False, True))
    assert all(torch.equal(paired[name], value) for name, value in alone.items())
    pairs = Pairs.of(paired)
    assert pairs.pictures.tolist() == [*range(ROWS), *range(ROWS)]
    assert pairs.labels.tolist() == [0] * ROWS + [1] * ROWS
    assert captions(pairs.input_ids[ROWS:]) == captions(features(OTHER)["caption"][:, 2:])
    both = Pairs.of(Negatives(50.0, paired=True, pictures=True).choose(features(OTHER)))
    assert len(both.labels) == 3 * ROWS and int(both.labels.sum()) == ROWS


def test_pairs_that_were_given_are_taken() -> None:
    given = {
        "itm_input_ids": torch.ones(2, 3, dtype=torch.long),
        "itm_attention_mask": torch.ones(2, 3, dtype=torch.long),
        "itm_labels": torch.tensor([0, 1]),
    }
    negatives = Negatives(1.0)
    found = negatives.choose(negatives.features(given, 5))
    assert found["itm_input_ids"].shape == (2, 5) and found["itm_labels"].tolist() == [0, 1]
