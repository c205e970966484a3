"""Reads a state into a placed model: all hashes first, then each process what its own pieces need."""

import json
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from stages.manifest import ManifestError
from stages.training.pieces import OPTIMIZER, Box, Local, bare_optimizer, local_of, parameter_names, weights
from stages.training.placing import Placed
from stages.training.state_files import HISTORY, Folder, Piece, Shard, State


@dataclass
class Reading:
    """A state whose files are here and have their hashes; a context manager that lets go of them."""

    folder: Folder
    state: State
    shards: list[Shard]
    _paths: dict[str, Path]
    """Files that hold something of this process's, by name."""
    _targets: dict[str, Tensor]
    """What is filled: the model's own tensors, and new ones for the optimizer."""
    _held: ExitStack

    def __enter__(self) -> "Reading":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the files."""
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        self._held.close()

    def fill(self, placed: Placed) -> None:
        """Put the state into the model and its optimizer."""
        with ExitStack() as stack:
            files = {name: stack.enter_context(safe_open(path, "pt")) for name, path in self._paths.items()}
            for name, target in self._targets.items():
                local = local_of(target)
                for file, piece in _pieces(self.shards)[name]:
                    if file in files:
                        copy_piece(files[file], name, piece, local)
        _remember(placed, self._targets)


def opened(folder: Folder, placed: Placed) -> Reading:
    """Return a state after all that this process needs of it has been verified.

    Raises:
        Damaged: A file is missing or is not what was written.
        ManifestError: The state is whole and holds other tensors than the model.
    """
    state = folder.state()
    shards = folder.shards(state)
    folder.checked(HISTORY, state)
    targets = _targets(folder, shards, placed)
    needed = {
        file
        for name, target in targets.items()
        for file, piece in _pieces(shards)[name]
        if Box(piece.offset, piece.shape).meet(local_of(target).box) is not None
    }
    with ExitStack() as stack:
        paths = {name: stack.enter_context(folder.local(name, state)) for name in sorted(needed)}
        return Reading(folder, state, shards, paths, targets, stack.pop_all())


def history_of(folder: Folder, state: State) -> list[dict[str, float]]:
    """Return what each step measured, up to a state.

    Raises:
        Damaged: The file is missing, or its hash differs.
    """
    return [json.loads(line) for line in folder.checked(HISTORY, state).splitlines()]


def _pieces(shards: list[Shard]) -> dict[str, list[tuple[str, Piece]]]:
    found: dict[str, list[tuple[str, Piece]]] = defaultdict(list)
    for shard in shards:
        for name, piece in shard.pieces.items():
            found[name].append((shard.tensors, piece))
    return found


def _targets(folder: Folder, shards: list[Shard], placed: Placed) -> dict[str, Tensor]:
    """Return the tensors to fill, by name: those of the model, and what its optimizer will remember."""
    shapes = {name: pieces[0][1].whole for name, pieces in _pieces(shards).items()}
    own = weights(placed.bare)
    stored = {name: shape for name, shape in shapes.items() if not name.startswith(f"{OPTIMIZER}/")}
    if stored != {name: tuple(tensor.shape) for name, tensor in own.items() if tensor.numel()}:
        odd = sorted(stored.keys() ^ own.keys())[:4] or "their shapes"
        raise ManifestError(
            f"{folder.root}/{folder.name} holds other tensors than the model ({odd}); "
            f"remove {folder.root} to train from the start"
        )
    by_name = {name: parameter for parameter, name in parameter_names(placed.bare).items()}
    for name, shape in shapes.items():
        if name.startswith(f"{OPTIMIZER}/"):
            parameter = by_name[name.split("/", 2)[2]]
            own[name] = _like(parameter, shape)
    return own


def _like(parameter: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return room for what an optimizer remembers: cut as its parameter is, unless it has another shape."""
    if tuple(parameter.shape) == shape and shape:
        return torch.zeros_like(parameter.detach())
    return torch.zeros(shape)


def copy_piece(file: Any, name: str, piece: Piece, local: Local) -> None:
    """Copy what one stored piece, in an opened safetensors file, has of a local one."""
    stored = Box(piece.offset, piece.shape)
    if not piece.shape:
        local.tensor.copy_(file.get_tensor(name))
    elif (both := stored.meet(local.box)) is not None:
        local.tensor[both.inside(local.box)].copy_(file.get_slice(name)[both.inside(stored)])


def _remember(placed: Placed, targets: dict[str, Tensor]) -> None:
    """Give the optimizer its memory back; the schedule sets its rates anew at each step."""
    optimizer, names = bare_optimizer(placed), parameter_names(placed.bare)
    memory: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in targets.items():
        if name.startswith(f"{OPTIMIZER}/"):
            _, kind, parameter = name.split("/", 2)
            memory[parameter][kind] = tensor
    order = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    state = {number: memory[name] for number, name in enumerate(order) if name in memory}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
