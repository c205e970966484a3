"""One, two or three micro batches, one or two processes, DDP or FSDP2: one loss and one gradient."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from models import grad_cache
from models.contrastive_loss import info_nce
from models.grad_cache import accumulate, bare
from models.objective import SAMPLE_LOSS, Joint, JointObjective, Named, totals_of

ROWS, WIDTH = 6, 5
Result = dict[str, dict[str, Tensor]]


class Towers(JointObjective):
    """Two layers whose outputs are contrasted; a third judges each row by what the contrast said of it."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.other, self.judge = nn.Linear(WIDTH, 4), nn.Linear(WIDTH, 4), nn.Linear(4, 1)
        self.scale = nn.Parameter(torch.ones(1))
        self.dropout = dropout
        self.double()

    def counts(self, batch: Named) -> dict[str, Tensor]:
        return {"judged": batch["weight"].sum()}

    def embed(self, batch: Named) -> dict[str, Tensor]:
        one = F.dropout(self.one(batch["one"]), self.dropout, self.training)
        return {
            "one": F.normalize(one),
            "other": F.normalize(self.other(batch["other"])),
            "scale": self.scale.exp()[0],
            "uid": batch["uid"],
        }

    def joint(self, features: Named) -> Joint:
        found = info_nce(features["one"], features["other"], features["scale"], caption_ids=features["uid"] // 2)
        losses = {"loss": found.loss, "contrast": found.loss, SAMPLE_LOSS: found.sample_loss}
        return Joint(losses, {"wanted": found.sample_loss + features["uid"]})

    def rest(self, batch: Named, features: Named, context: Named, totals: Named | None) -> dict[str, Tensor]:
        wrong = (self.judge(features["one"])[:, 0] - context["wanted"]) ** 2 * batch["weight"]
        judged = wrong.sum() / (totals or self.counts(batch))["judged"]
        return {"loss": judged, "judged": judged, SAMPLE_LOSS: wrong.detach()}


class Plain(nn.Module):
    """A mean over units of which rows have unequally many."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(WIDTH, 1).double()

    def counts(self, batch: Named) -> dict[str, Tensor]:
        return {"units": batch["weight"].sum()}

    def forward(self, batch: Named, totals: Named | None = None) -> dict[str, Tensor]:
        wrong = self.layer(batch["one"])[:, 0] ** 2 * batch["weight"]
        return {"loss": wrong.sum() / (totals or self.counts(batch))["units"], SAMPLE_LOSS: wrong.detach()}


def cut(batch: Named, sizes: Sequence[int]) -> list[dict[str, Tensor]]:
    cuts = {name: value.split(list(sizes)) for name, value in batch.items()}
    return [{name: pieces[number] for name, pieces in cuts.items()} for number in range(len(sizes))]


def drawn() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "one": torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64),
        "other": torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64),
        "weight": torch.arange(1.0, ROWS + 1, dtype=torch.float64),
        "uid": torch.arange(ROWS),
    }


def step(
    module: Any,
    pieces: Sequence[Named],
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Result:
    totals = totals_of(bare(module), pieces)
    losses = accumulate(module, pieces, totals, lambda loss: loss.backward(), no_sync)
    gradients = {}
    for name, parameter in bare(module).named_parameters():
        if parameter.grad is not None:
            gradients[name] = getattr(parameter.grad, "full_tensor", lambda grad=parameter.grad: grad)()
    return {"losses": losses, "gradients": gradients}


def differing(ours: Result, theirs: Result, tolerance: float = 1e-10) -> list[str]:
    assert all(ours[kind].keys() == theirs[kind].keys() for kind in theirs)
    return [
        name
        for kind, values in theirs.items()
        for name, value in values.items()
        if not torch.allclose(ours[kind][name], value, rtol=tolerance, atol=tolerance)
    ]


@pytest.mark.parametrize("kind", [Towers, Plain])
@pytest.mark.parametrize("sizes", [[3, 3], [1, 2, 3], [1] * 6])
def test_micro_batches_decide_nothing(kind: type[nn.Module], sizes: list[int]) -> None:
    expected = step(kind(), cut(drawn(), [ROWS]))
    assert not differing(step(kind(), cut(drawn(), sizes)), expected)
    assert expected["losses"][SAMPLE_LOSS].shape == (ROWS,)
    assert all(gradient.any() for gradient in expected["gradients"].values())


def test_without_totals_the_shares_of_micro_batches_are_wrong() -> None:
    wrong = accumulate(Plain(), cut(drawn(), [2, 4]), None, lambda loss: loss.backward(), nullcontext)
    right = step(Plain(), cut(drawn(), [ROWS]))["losses"]
    assert wrong["loss"].item() != pytest.approx(right["loss"].item(), rel=1e-3)


def test_a_replay_draws_the_same_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = cut(drawn(), [2, 4])
    module = Towers(dropout=0.5)
    torch.manual_seed(3)
    features = [module.embed(piece) for piece in pieces]
    whole = {name: torch.cat([each[name] for each in features]) for name in ("one", "other", "uid")}
    joint = module.joint({**whole, "scale": features[0]["scale"]})
    rest = module.rest(drawn(), whole, joint.context, None)
    (joint.losses["loss"] + rest["loss"]).backward()
    expected = {name: parameter.grad for name, parameter in module.named_parameters()}
    again = Towers(dropout=0.5)
    torch.manual_seed(3)
    found = step(again, pieces)
    assert not differing({"gradients": found["gradients"]}, {"gradients": expected})
    monkeypatch.setattr(grad_cache._Draws, "again", lambda draws: None)
    again = Towers(dropout=0.5)
    torch.manual_seed(3)
    other = step(again, pieces)
    assert "one.weight" in differing({"gradients": other["gradients"]}, {"gradients": expected}, 1e-3)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        accumulate(Plain(), [], None, lambda loss: loss.backward(), nullcontext)


def _ddp(module: Towers) -> tuple[nn.Module, Callable[[], AbstractContextManager[Any]]]:
    wrapped = DistributedDataParallel(module)
    return wrapped, wrapped.no_sync


def _fsdp2(module: Towers) -> tuple[nn.Module, Callable[[], AbstractContextManager[Any]]]:
    for part in (module.one, module.other, module.judge):
        fully_shard(part)
    wrapped: Any = fully_shard(module)

    @contextmanager
    def no_sync() -> Iterator[None]:
        wrapped.set_requires_gradient_sync(False)
        yield
        wrapped.set_requires_gradient_sync(True)

    return wrapped, no_sync


SIZES = ([3], [2, 1], [1, 1, 1])
WRAPPERS = {"ddp": _ddp, "fsdp2": _fsdp2}


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    own = {name: value.chunk(2)[rank] for name, value in drawn().items()}
    found: dict[Any, Any] = {}
    for wrapper, wrap in WRAPPERS.items():
        for sizes in SIZES:
            module, no_sync = wrap(Towers())
            found[wrapper, len(sizes)] = step(module, cut(own, sizes), no_sync)
            assert type(module) is not Towers
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(_worker, args=(str(folder),), nprocs=2)
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("micro_batches", [1, 2, 3])
def test_two_processes_have_the_step_of_one(ranks: list[dict[Any, Any]], wrapper: str, micro_batches: int) -> None:
    one, other = (found[wrapper, micro_batches] for found in ranks)
    expected = step(Towers(), cut(drawn(), [ROWS]))
    losses = {name: (value + other["losses"][name]) / 2 for name, value in one["losses"].items()}
    losses[SAMPLE_LOSS] = torch.cat([one["losses"][SAMPLE_LOSS], other["losses"][SAMPLE_LOSS]])
    # The wrapper has averaged the gradients already.
    for each in (one, other):
        assert not differing({"losses": losses, "gradients": each["gradients"]}, expected)
