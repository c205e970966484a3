"""Who may see whom in the three passes: as a table, and by changing what must not be seen."""

import pytest
import torch
from generative_world import make_batch, make_model

from models.plain_generative import PlainGenerativeObjective, Task, who_sees_whom

TABLES: dict[Task, list[str]] = {  # two queries, three words of which the last is padding; columns likewise
    "matching": ["11110", "11110", "11110", "11110", "11111"],
    "contrast": ["11000", "11000", "00100", "00110", "00111"],
    "captioning": ["11000", "11000", "11100", "11110", "11111"],
}


@pytest.mark.parametrize("task", list(TABLES))
def test_who_sees_whom_is_the_table(task: Task) -> None:
    found = who_sees_whom(task, torch.tensor([[1, 1, 0]]), queries=2)
    assert ["".join(str(int(each)) for each in row) for row in found[0, 0]] == TABLES[task]


def losses(**changed: torch.Tensor) -> dict[str, float]:
    batch = make_batch()
    for name in ("input_ids", "attention_mask"):
        batch[f"itm_{name}"] = batch[f"caption_{name}"]
    batch["itm_labels"] = torch.ones(len(batch["row"]), dtype=torch.long)
    with torch.no_grad():
        found = PlainGenerativeObjective(make_model())(batch | changed)
    return {name: found[name].item() for name in ("itc", "itm", "itg")}


@pytest.mark.parametrize(
    ("changed", "moved"),
    [
        ("itm_input_ids", {"itm"}),
        ("summary_input_ids", {"itc"}),
        ("prompted_input_ids", {"itg"}),
        ("pixel_values", {"itc", "itm", "itg"}),
    ],
)
def test_each_text_moves_its_own_loss_and_the_picture_all(changed: str, moved: set[str]) -> None:
    batch = make_batch()
    value = batch[changed.replace("itm_", "caption_")].clone()
    value[0, 1] = value[0, 1] + 1 if value.is_floating_point() else 20
    before, after = losses(), losses(**{changed: value})
    assert {name for name in before if before[name] != after[name]} == moved


@pytest.mark.parametrize(("task", "loss"), [("contrast", "itc"), ("captioning", "itg"), ("matching", "itm")])
def test_an_edge_too_many_or_too_few_is_noticed(task: Task, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the last query and the first word see each other the other way round: the loss of that task alone moves."""
    before = losses()

    def wrong(asked: Task, attention_mask: torch.Tensor, queries: int) -> torch.Tensor:
        seen = who_sees_whom(asked, attention_mask, queries)
        if asked == task:
            seen[..., queries - 1, queries] ^= True
        return seen

    monkeypatch.setattr("models.plain_generative.who_sees_whom", wrong)
    after = losses()
    assert {name for name in before if abs(before[name] - after[name]) > 1e-6} == {loss}
