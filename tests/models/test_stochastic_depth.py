"""Stochastic depth: fair, independent, and the same wherever a row is computed."""

import pytest
import torch

from models.stochastic_depth import kept, uniform

ROWS = 20_000


def splitmix64(state: int) -> int:
    """Return the output that follows a state, as the published algorithm has it, in whole numbers."""
    bits = 2**64 - 1
    state = (state + 0x9E3779B97F4A7C15) & bits
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & bits
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & bits
    return state ^ (state >> 31)


def test_numbers_are_those_of_splitmix64() -> None:
    assert splitmix64(0) == 0xE220A8397B1DCDAF  # the first output for seed 0 in published test vectors
    for noise in (0, 1, -1, 2**63 - 1, -(2**63)):
        for stream in (0, 1, 95):
            state = (noise + stream * 0x9E3779B97F4A7C15) % 2**64
            wanted = (splitmix64(state) >> 40) / 2**24
            assert uniform(torch.tensor([noise]), stream).item() == wanted


def test_numbers_are_even_and_independent_of_row_and_stream() -> None:
    noise = torch.arange(ROWS)  # neighbours: the worst that a batch could bring
    streams = torch.stack([uniform(noise, stream) for stream in range(4)])
    assert float(streams.min()) >= 0 and float(streams.max()) < 1
    counts = torch.histc(streams, bins=20, min=0, max=1)
    assert float(((counts - 4 * ROWS / 20) ** 2 / (4 * ROWS / 20)).sum()) < 44, "chi square, 19 degrees, p = 0.001"
    shifted = torch.cat([streams, streams.roll(1, dims=1)])
    apart = torch.corrcoef(shifted) - torch.eye(8)
    assert float(apart.abs().max()) < 0.03


def test_a_share_of_the_rows_is_dropped_and_the_mean_stays() -> None:
    shares = kept(0.25, torch.arange(ROWS), 0)
    assert shares.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert shares.mean().item() == pytest.approx(1, abs=0.02)
    with pytest.raises(ValueError, match="one int64 per row"):
        kept(0.25, None, 0)
