"""The closed list of what can become of one listed row at download."""

from enum import StrEnum


class Outcome(StrEnum):
    """Exactly one per listed row; remote error texts are mapped onto these and never stored."""

    FETCHED = "fetched"
    NOT_FOUND = "not_found"
    GONE = "gone"
    FORBIDDEN = "forbidden"
    OPT_OUT = "opt_out"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    BAD_STATUS = "bad_status"
    TIMEOUT = "timeout"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    REFUSED_SCHEME = "refused_scheme"
    REFUSED_ADDRESS = "refused_address"
    BAD_URL = "bad_url"
    TOO_LARGE = "too_large"
    NOT_IMAGE = "not_image"
    DECODE = "decode"
    OTHER = "other"


MAY_COME_BACK = frozenset(
    {Outcome.RATE_LIMITED, Outcome.SERVER_ERROR, Outcome.TIMEOUT, Outcome.DNS, Outcome.CONNECT, Outcome.TLS}
)
