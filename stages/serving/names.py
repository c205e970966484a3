"""Names that the command line offers, without what they stand for: that is slow to import."""

from enum import StrEnum

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that only this machine reaches."""


class EngineName(StrEnum):
    """Engines that read the exported folder."""

    AUTO = "auto"
    TRANSFORMERS = "transformers"
    VLLM = "vllm"
