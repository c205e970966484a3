"""Stochastic depth (arXiv:1603.09382) whose choices belong to a sample, not to a process or a place in a batch.

A random state would make a step depend on who computes which rows, and a replayed micro batch would need the
state saved. Here each row brings a random number of its own, and what a residual branch does is a hash of that
number and of the branch: equal for every micro batch, process, device and replay.
"""

from jaxtyping import Float, Int64
from torch import Tensor


def _signed(number: int) -> int:
    """Return the int64 with the bits of an unsigned 64-bit number."""
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >> 63 else number


_GAMMA = 0x9E3779B97F4A7C15
_FIRST, _SECOND = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def _shifted(bits: Int64[Tensor, " rows"], by: int) -> Int64[Tensor, " rows"]:
    """Shift right, filling with zeros: int64's own shift fills with the sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def uniform(noise: Int64[Tensor, " rows"], stream: int) -> Float[Tensor, " rows"]:
    """Return numbers in [0, 1), multiples of 2^-24: splitmix64 (Steele et al., OOPSLA 2014) of each row's noise.

    Args:
        noise: Any 64 bits per row.
        stream: Which of a row's numbers, from 0; streams are independent of each other.
    """
    bits = noise + _signed((stream + 1) * _GAMMA)
    bits = (bits ^ _shifted(bits, 30)) * _FIRST
    bits = (bits ^ _shifted(bits, 27)) * _SECOND
    bits = bits ^ _shifted(bits, 31)
    return _shifted(bits, 40).float() * 2.0**-24


def kept(rate: float, noise: Int64[Tensor, " rows"] | None, stream: int) -> Float[Tensor, " rows"]:
    """Return what to multiply a residual branch's rows with: 0 for a share `rate` of them, else 1 / (1 - rate).

    Raises:
        ValueError: Rows are to be dropped and bring no noise.
    """
    if noise is None:
        raise ValueError(
            f"stochastic depth at rate {rate:g} needs `noise`, one int64 per row; give it in the batch, "
            "or call eval() where nothing is trained"
        )
    return (uniform(noise, stream) >= rate).float() / (1 - rate)
