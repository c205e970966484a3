"""The chat page in a browser that reaches it through a proxy with TLS, under a path."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateways import TOKEN
from small_web import jpeg
from test_serving_page import Opened
from tls_proxy import Behind, behind_a_proxy

from stages.serving.served_model import ServedModel


@pytest.fixture(scope="module")  # as the browser is, which leaves no event loop to start an engine with
def behind(model: ServedModel) -> Iterator[Behind]:
    """Return a gateway with its page behind a proxy that keeps its path."""
    with behind_a_proxy(model, "/chat/room", strips=False, passes_host=False) as found:
        yield found


@pytest.mark.browser
@pytest.mark.timeout(300)
def test_talking_on_the_page_through_the_proxy(behind: Behind, browser: Any, tmp_path: Path) -> None:
    (file := tmp_path / "a.jpg").write_bytes(jpeg(1, (96, 48)))
    opened = Opened(browser, ignore_https_errors=True)
    page = opened.page
    page.goto(f"{behind.proxy.public}?token={TOKEN}")
    opened.says("#said", "Show a picture and ask about it")
    opened.asks("What is this?", file)
    assert opened.answers(1)
    opened.says("#tiles figcaption", "2 × 1 tiles")
    opened.picture("page-behind-a-proxy")
    with page.context.expect_page() as facts:
        page.get_by_text("Checkpoint facts").click()
    facts.value.get_by_text("Back to the chat").click()
    assert facts.value.url == f"{behind.proxy.public}/"
    assert set(behind.proxy.elsewhere) <= {"/favicon.ico"}, "which a browser looks for by itself"
    assert [url for url in opened.asked if not url.startswith((behind.proxy.public, "data:", "blob:"))] == []
    assert [said for said in opened.trouble if "404" not in said] == []
