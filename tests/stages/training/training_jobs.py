"""What forked processes are asked to do beside training the toy."""

import ctypes
import json
import os
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
import toy_run
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor

from infra.storage import StorageError, Store, StoreUnavailable
from stages.batches import share_of
from stages.manifest import ManifestError, digest_of
from stages.run import exit_code
from stages.training import state_writer
from stages.training.gang import Gang
from stages.training.job import Job
from stages.training.order import Order, Source
from stages.training.pieces import named_tensors
from stages.training.placing import Placed, place
from stages.training.states import States
from stages.training.stopping import StopRequest
from stages.workspace import Placement

NEW_USER, NEW_MOUNTS = 0x10000000, 0x00020000


def states_of(store: Store, sharded: bool, scratch: Path, digest: str = "d" * 64) -> tuple[Gang, Placed, States]:
    """Return the toy's model and optimizer, placed on these processes."""
    parameters = toy_run.Parameters(noise=False)
    placement = Placement(sharding="fsdp2" if sharded else "ddp")
    gang = Gang(Job(toy_run.build, parameters, {}, toy_run.output_of(store), placement, digest or digest_of({})))
    torch.manual_seed(1 + 100 * gang.processes)
    placed = place(gang, toy_run.Toy(parameters))
    scratch.mkdir(exist_ok=True)
    return (
        gang,
        placed,
        States(gang, placed, scratch, Order(0, [Source("samples", (toy_run.SAMPLES,))]), StopRequest()),
    )


def whole_tensors(placed: Placed) -> dict[str, torch.Tensor]:
    found = named_tensors(placed)
    return {name: (v.full_tensor() if isinstance(v, DTensor) else v).detach().clone() for name, v in found.items()}


def step_and_save(root: Path, sharded: bool) -> None:
    """Take a step, save, and leave beside it what each tensor was as a whole."""
    gang, placed, states = states_of(Store(str(root / "store")), sharded, root / f"scratch-{toy_run.rank()}")
    rows = share_of(range(8), gang.rank, gang.processes)
    placed.backward(placed.module(toy_run.Batches(toy_run.Parameters())(rows, 0))["loss"])
    placed.clip(1.0)
    placed.optimizer.step()
    states.restore()
    states.save(1, [{"loss": 1.0}])
    states.settle()
    states.close()
    found = whole_tensors(placed)
    if gang.is_first:
        save_file(found, root / "whole.safetensors")


def restore_and_compare(root: Path, sharded: bool) -> None:
    """Restore under this placement; every tensor is bit for bit what it was, and in shards where it should be."""
    _, placed, states = states_of(Store(str(root / "store")), sharded, root / f"scratch-{toy_run.rank()}")
    assert states.restore() is not None
    cut = [name for name, tensor in named_tensors(placed).items() if isinstance(tensor, DTensor)]
    assert len(cut) == (12 if sharded else 0), cut
    found, expected = whole_tensors(placed), load_file(root / "whole.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    states.close()


def small_disk(root: Path, on_failed_save: str) -> None:
    """Train on a disk that has room for the first states and not for the next ones; tell what happened."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(NEW_USER | NEW_MOUNTS):
        print("cannot unshare", flush=True)
        os._exit(77)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    disk = root / "disk"
    disk.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        os._exit(77)
    store, told = Store(str(disk)), {}
    real = toy_run.Batches.__call__

    def filled(self: Any, rows: Any, step: int) -> Any:
        while step == 5 and not toy_run.state_keys(store, "latest.json"):
            time.sleep(0.01)  # the first state is published in the background
        if step == 5:
            (disk / "filler").write_bytes(bytes((os.statvfs(disk).f_bavail - 2) * os.statvfs(disk).f_bsize))
        return real(self, rows, step)

    toy_run.Batches.__call__ = filled  # type: ignore[method-assign]
    placement = {"checkpoint_steps": 3, "on_failed_save": on_failed_save}
    try:
        # After the third save is asked for, which waits for the second: by then its failure is known.
        toy_run.make(store, root, placement, stop_at=10)
    except ManifestError as error:
        told["refused"] = str(error)
    except SystemExit as end:
        told["ended"] = str(end)
    told["states"] = [key.split("/")[-2] for key in toy_run.state_keys(store, "/state.json")]
    (disk / "filler").unlink()
    toy_run.Batches.__call__ = real  # type: ignore[method-assign]
    told["steps"] = toy_run.make(store, root, placement).totals["steps"]
    (root / f"told-{on_failed_save}.json").write_text(json.dumps(told))


def failing_save(root: Path, how: str) -> int:
    """Train two processes of which the second cannot save; return its exit code."""
    real = Store.write

    def refuse_words(self: Store, key: str, data: Any) -> None:
        if key.endswith("refusal.txt"):
            raise StorageError("the disk is full")
        real(self, key, data)

    def fail(tensors: Any, path: Path) -> None:
        raise StoreUnavailable("no answer") if how == "outage" else OSError(28, "No space left")

    if toy_run.rank() == 1:
        state_writer.save_file = fail
        if how == "nothing can be written":
            Store.write = refuse_words  # type: ignore[method-assign]
    print(f"rank {toy_run.rank()}", flush=True)
    return exit_code(partial(toy_run.make, Store(str(root)), root))


def one_sample_less(root: Path) -> int:
    """Train two processes of which the second left a sample out; return its exit code."""
    toy_run.Toy.samples = toy_run.SAMPLES - toy_run.rank()
    return exit_code(partial(toy_run.make, Store(str(root)), root))
