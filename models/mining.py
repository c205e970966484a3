"""Wrong pairs that look right: drawn from the similarities of the whole global batch (BLIP-2, arXiv:2301.12597).

Every process compares its own rows with those of all. Vectors of the shared space are gathered, which is
little; of captions only the chosen ones travel, and pictures never do: a caption goes to the process that
holds the picture it is to be judged with.
"""

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models.losses import processes

NONE = -1


def rank() -> int:
    """Return which of the processes this one is; 0 where it is alone."""
    return dist.get_rank() if processes() > 1 else 0


def draw(
    scores: Float[Tensor, "rows all_rows"], allowed: Bool[Tensor, "rows all_rows"], uniform: Float[Tensor, " rows"]
) -> Int[Tensor, " rows"]:
    """Return for each row one column, drawn with the odds softmax(scores) among the allowed ones.

    The draw is the inverse of the cumulated odds at a number that the caller brings, so it depends on scores
    and this number alone. Sums are in double precision: the order of adding may differ between placements.

    Args:
        scores: Scaled similarities, shape (rows, all rows).
        allowed: What may be drawn.
        uniform: In [0, 1), one per row.

    Returns:
        Columns, shape (rows,); -1 in a row that allows none.
    """
    hidden = scores.double().masked_fill(~allowed, float("-inf"))
    best = hidden.amax(dim=1, keepdim=True)
    odds = (hidden - best.masked_fill(best.isinf(), 0.0)).exp().cumsum(dim=1)
    total = odds[:, -1:].contiguous()
    drawn = torch.searchsorted(odds, uniform.double()[:, None] * total, right=True)
    # Rounding may lead one past the end; the last column with any odds is where the sum is reached.
    last = torch.searchsorted(odds, total)
    return torch.minimum(drawn, last)[:, 0].masked_fill(~allowed.any(dim=1), NONE)


def fetch_rows(values: Int[Tensor, "rows columns"], wanted: Int[Tensor, " wanted"]) -> Int[Tensor, "wanted columns"]:
    """Return rows of the global batch, asked from the processes that hold them.

    Args:
        values: This process's rows; as many on every process.
        wanted: Numbers in the global batch, counted over processes in the order of their ranks.

    Returns:
        Shape (wanted, columns).
    """
    if processes() == 1:
        return values[wanted]
    rows = values.shape[0]
    order, sent = _by_owner(wanted, rows)
    asked, received = _exchange((wanted % rows)[order][:, None], sent)
    answers, _ = _exchange(values[asked[:, 0]], received)
    return torch.empty_like(answers).index_copy_(0, order, answers)


def send_rows(
    values: Int[Tensor, "rows columns"], to: Int[Tensor, " rows"], rows: int
) -> tuple[Int[Tensor, "arrived columns"], Int[Tensor, " arrived"]]:
    """Send rows to where other rows of the global batch live.

    Args:
        values: What is sent, one for each entry of `to`.
        to: Numbers in the global batch.
        rows: How many rows each process holds.

    Returns:
        What arrived, in the order of the senders' rows, and to which of this process's rows it belongs.
    """
    if processes() == 1:
        return values, to
    order, sent = _by_owner(to, rows)
    letters = torch.cat([(to % rows)[:, None], values], dim=1)[order]
    arrived, _ = _exchange(letters, sent)
    return arrived[:, 1:], arrived[:, 0]


def _by_owner(numbers: Int[Tensor, " n"], rows: int) -> tuple[Int[Tensor, " n"], Int[Tensor, " processes"]]:
    """Return an order in which numbers of one process follow each other, and how many each process has."""
    owner = numbers // rows
    return owner.argsort(stable=True), torch.bincount(owner, minlength=processes())


def _exchange(
    values: Int[Tensor, "sent columns"], sent: Int[Tensor, " processes"]
) -> tuple[Int[Tensor, "received columns"], Int[Tensor, " processes"]]:
    """Give each process its piece of the rows; return what came from all, and how much from each."""
    received = torch.empty_like(sent)
    dist.all_to_all_single(received, sent)
    found = values.new_empty(int(received.sum()), *values.shape[1:])
    dist.all_to_all_single(found, values.contiguous(), received.tolist(), sent.tolist())
    return found, received
