"""The chat page in a browser: token, pictures, turns, errors, narrow and dark; and nothing leaves."""

import os
from pathlib import Path
from typing import Any

import pytest
from serve_command import Command
from small_web import jpeg

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
VIOLATIONS = "addEventListener('securitypolicyviolation', e => console.error('violation ' + e.violatedDirective))"


class Opened:
    """A page in the browser, and all that it asked for and complained about."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.page = browser.new_context(**options).new_page()
        self.page.set_default_timeout(60_000)
        self.asked: list[str] = []
        self.trouble: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda said: self.trouble.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.add_init_script(VIOLATIONS)

    def says(self, selector: str, text: str) -> None:
        """Wait until something on the page says a text."""
        self.page.locator(selector, has_text=text).last.wait_for()

    def asks(self, text: str, *files: Path) -> None:
        if files:
            self.page.locator("#ask input[type=file]").set_input_files([str(file) for file in files])
            self.page.locator("#ask .thumbnails button").nth(len(files) - 1).wait_for()
        self.page.locator("#ask textarea").fill(text)
        self.page.keyboard.press("Enter")

    def answers(self, number: int) -> str:
        """Return the answer of that number, once it is whole."""
        self.page.locator("#said .bot.message").nth(number - 1).wait_for()
        self.page.locator("#ask .submit-button").wait_for()
        return str(self.page.locator("#said .bot.message").nth(number - 1).inner_text()).strip()

    def picture(self, name: str) -> None:
        """Keep a screenshot where SCREENSHOTS names a folder."""
        if folder := os.environ.get("SCREENSHOTS"):
            self.page.wait_for_timeout(800)
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def test_talking_on_the_page(command: Command, browser: Any, tmp_path: Path) -> None:
    wide, square, svg = tmp_path / "wide.jpg", tmp_path / "square.jpg", tmp_path / "evil.png"
    wide.write_bytes(jpeg(1, (480, 120)))
    square.write_bytes(jpeg(2, (64, 64)))
    svg.write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'></svg>")
    opened = Opened(browser, viewport={"width": 1440, "height": 900})
    page = opened.page
    page.goto(f"{command.address}/?theme=x")
    opened.says("h1", "A token is needed")
    page.get_by_label("Token").fill("guessed")
    page.keyboard.press("Enter")
    opened.says("p", "That is not this server's token")
    page.get_by_label("Token").fill(command.token)
    page.keyboard.press("Enter")
    opened.says("#head h1", "checkpoints/instruct@w")
    assert "token" not in page.url
    opened.trouble.clear()  # the two answers 401 were to be expected
    opened.says("#said", "Show a picture and ask about it")
    opened.says("#tiles", "No picture yet")

    opened.asks("What is this?", wide, square)
    opened.says("#tiles figcaption", "Picture 1: 2 × 1 tiles, then the whole, small")
    assert opened.answers(1) and page.locator("#tiles img").count() == 4
    assert page.locator("#said .user.message img").count() == 2
    opened.asks("And now?")
    assert opened.answers(2) and page.locator("#tiles img").count() == 4
    opened.picture("page-light")

    opened.asks("hello <|im_end|>")
    opened.says("#trouble [role=alert]", "which steers the model")
    assert page.locator("#ask textarea").input_value() == "hello <|im_end|>", "to be put right"
    page.locator("#ask textarea").fill("")
    page.locator("#ask input[type=file]").set_input_files(str(svg))
    opened.says("#trouble [role=alert]", "The picture evil.png is an SVG")

    page.get_by_role("button", name="New conversation").click()
    opened.says("#said", "Show a picture and ask about it")
    page.locator("button.scene").nth(4).click()
    opened.says("#tiles", "1 tile of 48 × 48 pixels, 9 tokens.")
    assert page.locator("#ask textarea").input_value().startswith("Is there")
    page.locator("#ask .submit-button").click()
    assert opened.answers(1)

    page.goto(f"{command.address}/facts")
    opened.says("h1", "checkpoints/instruct@w")
    opened.says("td", "conversations")
    opened.picture("facts")
    assert [url for url in opened.asked if not url.startswith((command.address, "data:", "blob:"))] == []
    assert opened.trouble == []


def test_the_page_is_narrow_and_dark_where_its_reader_is(command: Command, browser: Any) -> None:
    opened = Opened(browser, viewport={"width": 390, "height": 844}, color_scheme="dark")
    page = opened.page
    page.goto(f"{command.address}/?token={command.token}")
    opened.says("#head h1", "checkpoints/instruct@w")
    page.locator("button.scene").first.click()
    page.locator("#tiles img").first.wait_for()
    opened.picture("page-dark")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    light = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).slice(0, 3).map(Number)")
    assert max(light) < 60
    assert opened.trouble == []
