"""Secrets to look for in what a run leaves behind, however they are written."""

import base64
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path


def made_up() -> str:
    """Return a secret that occurs nowhere else."""
    return f"canary{secrets.token_hex(16)}"


def spellings(secret: str) -> list[bytes]:
    """Return a secret as it is, and as it stands in base64 at each of the three offsets."""
    found = [secret.encode()]
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + secret.encode())
        found.append(whole[4 if shift else 0 : -4])  # the ends also hold bits of what stands beside
    return found


def leaks(left: Iterable[tuple[str, bytes]], canaries: Mapping[str, str], homes: Mapping[str, str]) -> list[str]:
    """Return which secrets are where they may not be.

    Args:
        left: What was left behind, by where.
        canaries: Secrets by name.
        homes: The one place where a secret of this name may lie.
    """
    ways = {name: spellings(secret) for name, secret in canaries.items()}
    return [
        f"{name} in {where}"
        for where, data in left
        for name, spelled in ways.items()
        if homes.get(name) != where and any(way in data for way in spelled)
    ]


def files_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Return the bytes of all files of a folder, by path."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield str(path), path.read_bytes()


def command_lines() -> Iterator[bytes]:
    """Return the command lines of all processes of this machine."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            yield (entry / "cmdline").read_bytes()
        except OSError:
            continue
