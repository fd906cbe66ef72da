"""Make the screenshots of the web page in docs/images, from a real server with the demo model.

python scripts/screenshots.py [DIRECTORY]
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import httpx
from chromium import chromium
from demo_server import demo_server
from playwright.sync_api import Browser, Page

DIRECTORY = Path(__file__).parents[1] / "docs" / "images"
SIZE = (1120, 800)
NUM_CLIENTS = 12
# How many seconds of the charts are filled.
WATCHED_SECONDS = 100
SYSTEM = "You are a friendly assistant. Answer in few words, and say so if you don't know. " * 3


def main() -> None:
    """Take four pictures: both views, light and dark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, nargs="?", default=DIRECTORY)
    directory: Path = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    with demo_server() as url, chromium() as browser:
        with page_at(browser, url) as page:
            converse(page)
            take(page, directory / "chat")
        with page_at(browser, f"{url}/#status") as page, load(url):
            page.wait_for_timeout(WATCHED_SECONDS * 1000)
            take(page, directory / "status")


@contextmanager
def page_at(browser: Browser, url: str) -> Iterator[Page]:
    """Open the URL in a page with its own browser session."""
    with browser.new_context(viewport={"width": SIZE[0], "height": SIZE[1]}) as context:
        page = context.new_page()
        page.goto(url)
        yield page


def converse(page: Page) -> None:
    """Have a conversation with a tool call, at temperature 0."""
    settings = page.get_by_role("button", name="Settings", exact=True)
    settings.click()
    page.get_by_label("Temperature").fill("0")
    say(page, "What is 17 plus 25?")
    page.get_by_role("button", name="Example tool").click()
    settings.click()
    say(page, "What is the weather in Paris?")
    page.get_by_label("Result of get_weather").fill('{"temperature": 21, "condition": "sunny"}')
    page.get_by_role("button", name="Send results").click()
    settle(page)


def say(page: Page, text: str) -> None:
    """Send a message and wait for the reply."""
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")
    settle(page)


def settle(page: Page) -> None:
    """Wait until the last reply is complete."""
    page.wait_for_selector("article.reply[data-state=done] >> nth=-1")
    page.wait_for_selector("article.reply[data-state=streaming]", state="detached")


def take(page: Page, name: Path) -> None:
    """Take one picture in each theme."""
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    page.mouse.move(0, 0)  # away from the buttons
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(300)  # until transitions end
        page.screenshot(path=f"{name}-{scheme}.png")


@contextmanager
def load(url: str) -> Iterator[None]:
    """Run clients that ask one question after another, some of them with pauses."""
    done = threading.Event()
    clients = [threading.Thread(target=ask_on, args=(url, i, done)) for i in range(NUM_CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        done.set()
        for client in clients:
            client.join()


def ask_on(url: str, number: int, done: threading.Event) -> None:
    """Ask the model to count, again and again. A client with a higher number makes longer pauses."""
    question = {"role": "user", "content": f"Count from {number} to {number + 18}."}
    body = {"messages": [{"role": "system", "content": SYSTEM}, question], "max_tokens": 120}
    while not done.wait(number * 0.2):
        httpx.post(f"{url}/v1/chat/completions", json=body, timeout=600).raise_for_status()


if __name__ == "__main__":
    main()
