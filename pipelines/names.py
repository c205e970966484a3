"""What can be chosen, as forms and commands offer it; light to import."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

Version = Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")]
"""A version's name, or nothing; a form refuses other letters before a run begins."""


class FlowName(StrEnum):
    """The flows that follow a recipe."""

    DATA = "data"
    TRAIN = "train"
    INTERNVL = "internvl"


class RecipeName(StrEnum):
    """The recipes that can be chosen."""

    TINY = "tiny"
    SMOKE = "smoke"
    PHOTOS = "photos"
    ONE_GPU = "one_gpu"
    PAPER = "paper"


class SourceName(StrEnum):
    """The sources of all recipes; `own` is yours, in the recipes photos and one_gpu."""

    LAION_EN = "laion_en"
    LAION_MULTI = "laion_multi"
    LAION_COCO = "laion_coco"
    COYO = "coyo"
    CC12M = "cc12m"
    CC3M = "cc3m"
    SBU = "sbu"
    WUKONG = "wukong"
    OWN = "own"


class Answer(StrEnum):
    """What a person says to what the filters kept."""

    APPROVE = "approve"
    REJECT = "reject"


class Mixing(StrEnum):
    """How much of a training comes from which of several sources of instruction data."""

    REPEAT = "repeat"
    SQUARE_ROOT = "square_root"


class RetryName(StrEnum):
    """What a later pass asks for again: all that may come back, some of it, or what was fetched, to compare."""

    TRANSIENT = "transient"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    LOST = "lost"
    FETCHED = "fetched"


class StageName(StrEnum):
    """The stages, in the order of the road."""

    LIST_URLS = "list_urls"
    DOWNLOAD = "download"
    FILTERING_NETWORK = "filtering_network"
    SCORE = "score"
    FILTER = "filter"
    WRITE_SHARDS = "write_shards"
    LANGUAGE = "language"
    CONTRASTIVE = "contrastive"
    GENERATIVE = "generative"
    CONVERSATIONS = "conversations"
    INSTRUCT = "instruct"
    EVALUATE = "evaluate"
    EXPORT = "export"
