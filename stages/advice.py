"""The next move for people when a whole list gave no picture."""

from collections import Counter

from stages.manifest import Manifest
from stages.outcome import Outcome

ADVICE = {
    Outcome.BLOCKED: "the list of blocked hashes and domains takes everything: look through it",
    Outcome.OPT_OUT: "their owners do not want them used; choose another source",
    Outcome.ROBOTS: "robots.txt forbids them; choose another source",
    Outcome.REFUSED_SCHEME: "only http and https are fetched: pictures on this machine come in with --images",
    Outcome.REFUSED_ADDRESS: "only public addresses are fetched: allow a server of yours with --allow-host HOST:PORT",
    Outcome.BAD_URL: "check that the url column holds addresses: --url-column",
    Outcome.HASH_MISMATCH: "the hashes of the source are of other files: check its column of hashes",
    Outcome.DNS: "check the network of the workers, and that the url column holds addresses",
    Outcome.CONNECT: "check that the servers are up and reachable from the workers",
    Outcome.TLS: "check the certificates of the servers, and the clock and the certificates of the workers",
    Outcome.TIMEOUT: "raise download.timeout_seconds, or lower download.threads",
    Outcome.BAD_RESPONSE: "check that web servers answer there, and no proxy stands between",
    Outcome.BAD_REDIRECT: "check where the servers send us: they may want a login",
    Outcome.NOT_FOUND: "the addresses are old, or the url column holds something else: --url-column",
    Outcome.GONE: "the addresses are old; choose another source",
    Outcome.FORBIDDEN: "the servers refuse us: say who you are in download.contact, or choose another source",
    Outcome.RATE_LIMITED: "lower download.per_host or set download.per_host_per_second",
    Outcome.SERVER_ERROR: "the servers are in trouble: try again later with --retry transient",
    Outcome.BAD_STATUS: "check what the servers say to a browser",
    Outcome.TOO_LARGE: "raise download.max_bytes",
    Outcome.NOT_IMAGE: "check that the url column points at pictures, not at pages",
    Outcome.TOO_MANY_PIXELS: "raise download.max_pixels",
    Outcome.DECODE: "check that the files are whole: JPEG, PNG, WEBP, GIF and BMP are read",
    Outcome.LOST: "look into the logs of the workers",
}


def nothing_fetched(listing: Manifest, counts: Counter[str]) -> str:
    """Return what to say of a list that gave no picture: its most frequent outcome and the next move."""
    worst, rows = counts.most_common(1)[0] if counts else ("", 0)
    advice = ADVICE[Outcome(worst)] if worst else "list rows first"
    return (
        f"none of the {sum(counts.values())} rows of {listing.ref} gave a picture; "
        f"{rows} ended as {worst!r}: {advice}; then run again with --force"
    )
