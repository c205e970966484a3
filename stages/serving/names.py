"""Names that the command line offers, without what they stand for: that is slow to import."""

from enum import StrEnum


class EngineName(StrEnum):
    """Engines that read the exported folder."""

    AUTO = "auto"
    TRANSFORMERS = "transformers"
    VLLM = "vllm"
