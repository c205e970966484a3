"""What the doors answer themselves, and the headers without which nothing leaves."""

import json
from collections.abc import Iterable

from stages.serving.asgi import Send
from stages.serving.refusal import Refused

API = "/v1/"

# The toolkit of the page builds its scripts and styles at run time; all that it loads comes from here.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
SAFE_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


LOGIN = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Token needed</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1.25rem;color:#1c2530}
input,button{font:inherit;padding:.5rem .75rem;border:1px solid #9aa7b4;border-radius:.5rem;background:inherit;
color:inherit}input{width:100%%;box-sizing:border-box;margin:.5rem 0}button{background:#0e6b80;color:#fff;border:0}
@media(prefers-color-scheme:dark){body{background:#0f1419;color:#e8edf2}button{background:#1b8ba3}}
</style></head><body><h1>A token is needed</h1><p>%s</p><form action="" method="post">
<label>Token <input name="token" type="password" autocomplete="off" required></label>
<button>Come in</button></form></body></html>"""
ASK = "The terminal that runs <code>internvl serve</code> shows an address with the token in it: open that one."
WRONG = "That is not this server's token; it is new each time the server starts. "


def closed(headers: Iterable[tuple[bytes, bytes]], path: str) -> list[tuple[bytes, bytes]]:
    """Return an answer's headers without leave for other sites, and with our own rules."""
    ours = {**SAFE_HEADERS, **({"cache-control": "no-store"} if path.startswith(API) else {})}
    kept = [
        (name, value)
        for name, value in headers
        if not name.lower().startswith(b"access-control-") and name.lower().decode("latin-1") not in ours
    ]
    return kept + [(name.encode(), value.encode()) for name, value in ours.items()]


async def answer(send: Send, status: int, body: bytes, headers: dict[str, str]) -> None:
    """Send a whole answer, with the headers that all have."""
    given = {**SAFE_HEADERS, **headers, "content-length": str(len(body))}
    pairs = [(name.encode(), value.encode("latin-1", "replace")) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


async def as_json(send: Send, refused: Refused) -> None:
    """Send why something is refused, in OpenAI's shape."""
    await answer(
        send, refused.status, json.dumps(refused.body).encode(),
        {"content-type": "application/json", "cache-control": "no-store", **refused.headers},
    )  # fmt: skip


async def as_html(send: Send, status: int, page: str) -> None:
    """Send a page that nobody keeps."""
    await answer(
        send, status, page.encode(), {"content-type": "text/html; charset=utf-8", "cache-control": "no-store"}
    )
