"""The page at /, in a real browser, from a real server with a fake model, and once with the demo model."""

from __future__ import annotations

import json
import re
import shlex
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from chromium import NoBrowserError, chromium
from demo_server import demo_server
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from mlc_serve.engine.sampling import Draw
from mlc_serve.engine.speculation.draft_lengths import FixedLengths
from mlc_serve.engine.speculation.ngram import NGram
from mlc_serve.engine.speculation.speculation import Speculation
from mlc_serve.testing import likely_letter, replay
from tests.e2e.fake_supervisor import fake_supervisor
from tests.e2e.live_server import LiveServer, live_server
from tests.e2e.page_watch import Watch
from tests.patience import PATIENCE

REPLY = b"One **two** three four five."
HOSTILE = (
    b"<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
    b"<a href='javascript:window.hacked = 3'>link</a>\n\n![picture](http://127.0.0.1:9/x.png) <b>safe</b>"
)
TOOLS = '[{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]'
CALL = b'<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests, each of which opens its own page; without a browser they are skipped."""
    expect.set_options(timeout=PATIENCE * 1000)
    try:
        with chromium() as running:
            yield running
    except NoBrowserError as error:
        pytest.skip(str(error))


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page, which must load nothing from elsewhere and log no error during the test."""
    with browser.new_context(permissions=["clipboard-read", "clipboard-write"]) as context:
        yield from watched_page(context)


@pytest.fixture
def unprotected_page(browser: Browser) -> Iterator[Page]:
    """A page like `page`, but without the server's Content-Security-Policy.

    A script that does not run here was removed from the reply, and not merely stopped by the policy. Under
    the policy, some browsers also log errors about handlers in the inert document that cleans replies.
    """
    with browser.new_context(bypass_csp=True) as context:
        yield from watched_page(context)


def watched_page(context: BrowserContext) -> Iterator[Page]:
    """A page of `context`, with the checks of `page` after the test."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)  # milliseconds
    watch = Watch(page)
    yield page
    assert watch.faults == []
    assert all(origin.startswith("http://127.0.0.1:") for origin in watch.origins)


@pytest.fixture
def server() -> Iterator[LiveServer]:
    """A server whose model always says REPLY."""
    with live_server(replay(REPLY)) as running:
        yield running


def write(page: Page, text: str) -> None:
    """Write a message and send it."""
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")


def ask(page: Page, text: str = "Hello") -> Locator:
    """Send a message and wait for the end of the reply."""
    write(page, text)
    expect(page.get_by_label("Reply").last).to_have_attribute("data-state", "done")
    return page.get_by_label("Reply").last


def requested(page: Page, act: Any) -> dict[str, Any]:
    """The chat request that the page sends when `act` is called."""
    with page.expect_request("**/v1/chat/completions") as sent:
        act()
    body: dict[str, Any] = json.loads(sent.value.post_data or "")
    return body


def set_tools(page: Page, tools: str) -> None:
    """Put tools into the settings."""
    page.get_by_role("button", name="Settings", exact=True).click()
    page.get_by_label("Tools, as a JSON list").fill(tools)


def test_a_reply_streams(page: Page, server: LiveServer) -> None:
    """A reply's beginning is shown before the rest is computed; rates and Markdown follow at the end."""
    server.backend.hold_after(5)
    page.goto(server.url)
    write(page, "Hello")
    reply = page.get_by_label("Reply")
    expect(reply).to_contain_text("One")
    expect(reply).to_have_attribute("aria-busy", "true")
    expect(reply).not_to_contain_text("five")
    server.backend.gate.set()
    expect(reply).to_contain_text("One two three four five.")
    expect(reply.locator("strong")).to_have_text("two")
    expect(reply).to_contain_text(re.compile(r"[\d.,]+ tokens/s"))
    expect(reply).to_contain_text(re.compile(r"first token [\d.]+ (ms|s)"))
    expect(reply).to_contain_text(f"{len(REPLY) + 1} tokens")


@pytest.mark.parametrize("way", ["button", "key"])
def test_a_reply_is_stopped(page: Page, server: LiveServer, way: str) -> None:
    """Stop keeps what has arrived and ends the request on the server; the next one is answered."""
    server.backend.hold_after(5)
    page.goto(server.url)
    write(page, "Hello")
    reply = page.get_by_label("Reply")
    expect(reply).to_contain_text("One")
    if way == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press("Escape")
    expect(reply).to_have_attribute("data-state", "stopped")
    expect(reply).to_contain_text("One")
    assert server.aborted.wait(timeout=PATIENCE)
    server.backend.gate.set()
    expect(ask(page, "Again")).to_contain_text("five")


def test_a_reload_keeps_the_conversation(page: Page, server: LiveServer) -> None:
    """A reload keeps turns, model and settings, and the next request is made from them."""
    page.goto(server.url)
    page.get_by_role("button", name="Settings", exact=True).click()
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Temperature").fill("0.5")
    ask(page, "First")
    page.reload()
    expect(page.get_by_label("You")).to_contain_text("First")
    expect(page.get_by_label("Reply")).to_contain_text("five")
    body = requested(page, lambda: write(page, "Second"))
    assert [message["content"] for message in body["messages"]] == [
        "Be brief.",
        "First",
        REPLY.decode(),
        "Second",
    ]
    assert (body["temperature"], body["model"]) == (0.5, "fake")


def test_a_reload_in_mid_stream_keeps_what_came(page: Page, server: LiveServer) -> None:
    """After a reload, the part of the reply that had arrived is shown, and its request is aborted."""
    server.backend.hold_after(5)
    page.goto(server.url)
    write(page, "Hello")
    expect(page.get_by_label("Reply")).to_contain_text("One")
    page.reload()
    expect(page.get_by_label("Reply")).to_contain_text("One")
    expect(page.get_by_label("Reply")).to_have_attribute("data-state", "stopped")
    assert server.aborted.wait(timeout=PATIENCE)


def test_an_error_of_the_server_is_shown(page: Page, server: LiveServer) -> None:
    """A refusal is shown in the server's words where the reply would be, and a retry works."""
    page.goto(server.url)
    page.get_by_role("button", name="Settings", exact=True).click()
    page.get_by_label("Temperature").fill("7")
    write(page, "Hello")
    reply = page.get_by_label("Reply")
    expect(reply.get_by_role("alert")).to_contain_text("temperature")
    page.get_by_label("Temperature").fill("")
    reply.get_by_role("button", name="Retry").click()
    expect(reply).to_contain_text("five")
    expect(reply.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_label("You")).to_have_count(1)


def test_an_error_in_mid_stream_keeps_what_came(page: Page, server: LiveServer) -> None:
    """A reply that fails shows its beginning and the error; a retry starts it again."""
    server.backend.fail_on = {ord("w")}
    page.goto(server.url)
    write(page, "Hello")
    reply = page.get_by_label("Reply")
    expect(reply.get_by_role("alert")).to_contain_text("failed")
    expect(reply).to_contain_text("One")
    server.backend.fail_on = set()
    reply.get_by_role("button", name="Retry").click()
    expect(reply).to_contain_text("One two three four five.")


def test_a_server_that_is_gone_is_told(page: Page) -> None:
    """When the server does not answer, both the status view and the reply say so."""
    with live_server(replay(REPLY)) as server:
        page.goto(server.url)
        ask(page)
        page.get_by_role("link", name="Status").click()
        expect(page.get_by_label("Engine")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    page.get_by_role("link", name="Chat").click()
    write(page, "Hello?")
    expect(page.get_by_label("Reply").last.get_by_role("alert")).to_contain_text("does not answer")


def test_a_key_is_asked_for(page: Page) -> None:
    """The page loads without a key, shows the server's refusal of a wrong one, and works with the right one.

    After a reload the key need not be entered again; it is neither in localStorage nor in a copied command.
    """
    with live_server(replay(REPLY), api_keys=["secret"]) as server:
        page.goto(server.url)
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_role("alert")).to_have_text("This server asks for an API key.")
        for key in ("wrong", "secret"):
            dialog.get_by_label("Key", exact=True).fill(key)
            dialog.get_by_role("button", name="Use this key").click()
            if key == "wrong":
                expect(dialog.get_by_role("alert")).to_contain_text("not valid")
        expect(dialog).to_have_count(0)
        expect(ask(page)).to_contain_text("five")
        page.reload()
        expect(ask(page)).to_contain_text("five")
        assert "secret" not in page.evaluate("JSON.stringify(localStorage)")
        page.get_by_label("Reply").last.get_by_role("button", name="Copy as curl").click()
        copied = page.evaluate("navigator.clipboard.readText()")
    assert "$OPENAI_API_KEY" in copied
    assert "secret" not in copied


def test_a_key_that_was_taken_back_is_asked_for_again(page: Page) -> None:
    """A chat whose key is refused says so in place, asks for another key, and can be retried with it."""
    with live_server(replay(REPLY), api_keys=["secret"]) as server:
        page.add_init_script("sessionStorage['mlc_serve.key'] ??= 'old'")
        page.goto(server.url)
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        write(page, "Hello")
        dialog = page.get_by_role("dialog")
        expect(page.get_by_label("Reply").get_by_role("alert")).to_contain_text("not valid")
        dialog.get_by_label("Key", exact=True).fill("secret")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Retry").click()
        expect(page.get_by_label("Reply")).to_contain_text("five")


def test_a_message_is_edited(page: Page, server: LiveServer) -> None:
    """An edited message is sent and replaces all that followed it; Escape leaves everything as it was."""
    page.goto(server.url)
    ask(page, "First")
    ask(page, "Second")
    page.get_by_label("You").first.get_by_role("button", name="Edit").click()
    page.get_by_label("Edit message").fill("Never")
    page.keyboard.press("Escape")
    expect(page.get_by_label("You")).to_have_count(2)
    page.get_by_label("You").first.get_by_role("button", name="Edit").click()
    page.get_by_label("Edit message").fill("Other")
    body = requested(page, page.get_by_role("button", name="Send", exact=True).first.click)
    assert [message["content"] for message in body["messages"]] == ["Other"]
    expect(page.get_by_label("You")).to_have_count(1)
    expect(page.get_by_label("Reply")).to_have_count(1)


def test_a_model_is_picked(page: Page) -> None:
    """Requests go to the model that was chosen, a reload keeps the choice, and the status view follows it."""
    with live_server(replay(REPLY), others=["other"]) as server:
        page.goto(server.url)
        page.get_by_label("Model", exact=True).select_option("other")
        assert requested(page, lambda: write(page, "Hello"))["model"] == "other"
        page.reload()
        expect(page.get_by_label("Model", exact=True)).to_have_value("other")
        page.get_by_role("link", name="Status").click()
        expect(page.get_by_label("Engine")).to_contain_text(re.compile("model *other"))


def test_a_line_is_begun_without_sending(page: Page, server: LiveServer) -> None:
    """Shift+Enter begins a new line, and Enter sends the message; an empty one is not sent."""
    page.goto(server.url)
    page.get_by_label("Message", exact=True).press("Enter")
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    body = requested(page, lambda: page.keyboard.press("Enter"))
    assert [message["content"] for message in body["messages"]] == ["one\ntwo"]


def test_a_stranger_in_the_reply_can_do_nothing(unprotected_page: Page) -> None:
    """Scripts, handlers and javascript: links of a reply are dropped, and pictures are not fetched."""
    page = unprotected_page
    with live_server(replay(HOSTILE)) as server:
        page.goto(server.url)
        reply = ask(page)
        expect(reply.locator("b")).to_have_text("safe")
        assert page.evaluate("window.hacked") is None
        assert reply.locator("img, script").count() == 0
        assert reply.locator("[href^=javascript]").count() == 0
        expect(reply.get_by_role("link", name="picture")).to_have_attribute("rel", "noopener noreferrer")
        page.evaluate("html => document.createElement('div').innerHTML = html", HOSTILE.decode())
        page.wait_for_function("window.hacked === 2")  # without cleaning, the reply would have run code


def test_reasoning_is_set_apart(page: Page) -> None:
    """The text in <think> is folded away under a heading, and can be opened."""
    with live_server(replay(b"<think>Hm, two.</think>It is 2.")) as server:
        page.goto(server.url)
        reply = ask(page)
        expect(reply.locator(".markdown")).to_have_text("It is 2.")
        expect(reply.get_by_text("Hm, two.")).to_be_hidden()
        reply.get_by_text("Reasoning").click()
        expect(reply.get_by_text("Hm, two.")).to_be_visible()


def test_tool_calls_are_shown_and_answered(page: Page) -> None:
    """A call shows its name and arguments; a result typed in is sent back as a tool message."""
    with live_server(replay(CALL)) as server:
        page.goto(server.url)
        set_tools(page, TOOLS)
        reply = ask(page)
        expect(reply.get_by_text("Calls add")).to_be_visible()
        expect(reply.locator("pre")).to_contain_text('"a": 1')
        page.get_by_label("Result of add").fill("3")
        body = requested(page, page.get_by_role("button", name="Send results").click)
        assert body["tools"] == json.loads(TOOLS)
        question, call, result = body["messages"]
        assert question == {"role": "user", "content": "Hello"}
        assert call["tool_calls"][0]["function"]["name"] == "add"
        assert (result["role"], result["content"]) == ("tool", "3")
        assert result["tool_call_id"] == call["tool_calls"][0]["id"]


def test_tools_that_are_no_json_are_not_sent(page: Page, server: LiveServer) -> None:
    """Invalid tools are reported, and neither a message nor a retry is sent until they are corrected."""
    page.goto(server.url)
    ask(page)
    set_tools(page, "[{")
    write(page, "Again")
    expect(page.get_by_role("alert")).to_contain_text("not valid JSON")
    expect(page.get_by_role("button", name="Retry")).to_be_disabled()
    expect(page.get_by_label("You")).to_have_count(1)
    page.get_by_label("Tools, as a JSON list").fill("")
    page.get_by_label("Message", exact=True).press("Enter")
    expect(page.get_by_label("You")).to_have_count(2)


def test_a_copied_command_asks_the_same(page: Page, server: LiveServer) -> None:
    """The arguments of the copied curl, sent by another client, get the reply that the page got."""
    page.goto(server.url)
    ask(page, 'It\'s a "test".\n')
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    words = shlex.split(page.evaluate("navigator.clipboard.readText()"))
    assert words[:3] == ["curl", "-N", f"{server.url}/v1/chat/completions"]
    headers = {"Content-Type": "application/json"}
    reply = httpx.post(words[2], content=words[-1], headers=headers, timeout=PATIENCE)
    data = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
    pieces = [choice["delta"].get("content") or "" for event in data for choice in event["choices"]]
    assert "".join(pieces) == REPLY.decode()


def tile(page: Page, name: str) -> Locator:
    """The number on a tile of the status view."""
    return page.locator(".tiles > div", has=page.get_by_text(name, exact=True)).locator("dd")


def test_the_status_follows_the_metrics(page: Page) -> None:
    """The status shows the engine's running and waiting requests and its pages, until all have ended."""
    draws = threading.Semaphore(0)

    def choose(stored: Sequence[int], draw: Draw) -> int:
        draws.acquire()
        return likely_letter(stored, draw)

    with live_server(choose, limits={"max_num_sequence": 2}) as server, ThreadPoolExecutor(1) as client:
        body = {"prompt": "x" * 8, "max_tokens": 24, "ignore_eos": True, "n": 3}
        page.goto(f"{server.url}/#status")
        expect(tile(page, "Running")).to_have_text("0")
        reply = client.submit(httpx.post, f"{server.url}/v1/completions", json=body, timeout=PATIENCE)
        assert server.backend.entered.wait(timeout=PATIENCE)
        httpx.get(f"{server.url}/health", timeout=PATIENCE)  # answered after all three are submitted
        draws.release(8)
        expect(tile(page, "Running")).to_have_text("2")
        expect(tile(page, "Waiting")).to_have_text("1")
        metrics = httpx.get(f"{server.url}/metrics", timeout=PATIENCE).text
        used = re.search(r'kv_cache_pages_used\{model="fake"\} ([\d.]+)', metrics)
        assert used
        pages = page.get_by_label("KV cache pages").get_by_role("listitem")
        expect(pages.first).to_contain_text(f"running requests {float(used[1]):.0f}")
        draws.release(1000)
        assert reply.result().status_code == 200
        expect(tile(page, "Running")).to_have_text("0")
        p99 = page.get_by_label("Time to first token").get_by_role("listitem").last
        expect(p99).to_have_text(re.compile(r"^p99 [\d.]+ (ms|s)$"))
        expect(page.get_by_label("Engine")).to_contain_text(re.compile("max_num_sequence *2"))


def test_kept_drafts_are_shown_once_tokens_were_drafted(page: Page) -> None:
    """An engine that has drafted nothing has no tile for them."""
    speculation = Speculation(NGram(), FixedLengths(3))
    with live_server(replay(b"ab" * 100), speculation=speculation) as server:
        page.goto(f"{server.url}/#status")
        expect(tile(page, "Running")).to_have_text("0")
        expect(tile(page, "Drafts kept")).to_have_count(0)
        body = {"prompt": "x", "max_tokens": 60}
        httpx.post(f"{server.url}/v1/completions", json=body, timeout=PATIENCE).raise_for_status()
        expect(tile(page, "Drafts kept")).to_have_text(re.compile(r"^[\d.]+ %$"))


def test_the_supervisor_is_shown(page: Page) -> None:
    """If a supervisor runs the server, the page shows its status and follows its events."""
    with fake_supervisor() as (supervisor, url), live_server(supervisor_url=url) as server:
        page.goto(f"{server.url}/#status")
        card = page.get_by_label("Supervisor")
        expect(card).to_contain_text("server is up")
        expect(card).to_contain_text("4711")
        supervisor.change(http_available=False, error="port 8000 was taken")
        expect(card).to_contain_text("does not answer")
        expect(card).to_contain_text("port 8000 was taken")


@pytest.mark.parametrize("view", ["chat", "status"])
def test_a_narrow_screen_needs_no_scrolling_sideways(page: Page, server: LiveServer, view: str) -> None:
    """Everything fits into 360 pixels, with a long word in the conversation and the settings open."""
    page.set_viewport_size({"width": 360, "height": 700})
    page.goto(server.url)
    ask(page, "x" * 200)
    page.get_by_role("button", name="Settings", exact=True).click()
    page.goto(f"{server.url}/#{view}")
    expect(page.get_by_role("main")).to_be_visible()
    if view == "status":
        expect(tile(page, "Running")).to_have_text("0")
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_colours_follow_the_system_or_the_user(page: Page, server: LiveServer) -> None:
    """The page is dark if the system is, until the user chooses; a reload keeps the choice."""
    background = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="dark")
    page.goto(server.url)
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    dark = page.evaluate(background)
    page.get_by_role("button", name="Colours: same as the system").click()
    expect(page.get_by_role("button", name="Colours: light")).to_be_visible()
    assert page.evaluate(background) != dark
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")


def test_everything_is_reached_by_keyboard(page: Page, server: LiveServer) -> None:
    """The Tab key goes through every control that is visible and enabled, and back to the first. Each has a
    name, and shows that it has the focus.
    """
    page.goto(server.url)
    ask(page)
    names = set()
    page.evaluate("window.reached = new Set()")
    while True:
        page.keyboard.press("Tab")
        found = page.evaluate(
            "(() => { const e = document.activeElement, isNew = !reached.has(e); reached.add(e);"
            " return [e.tagName, e.getAttribute('aria-label') || e.innerText || e.labels?.[0]?.innerText,"
            " getComputedStyle(e).outlineStyle, isNew]; })()"
        )
        if not found[3]:
            break
        if found[0] == "BODY":
            continue
        names.add(str(found[1]).strip())
        assert found[1], found
        assert found[2] != "none" or found[0] == "TEXTAREA", found  # its frame shows the focus
    missed = page.evaluate(
        "[...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex]')]"
        ".filter(e => e.checkVisibility() && !e.disabled && !reached.has(e)).map(e => e.outerHTML)"
    )
    assert missed == []
    assert {"Chat", "Status", "Model", "Retry", "Copy as curl", "New chat", "Settings", "Message"} <= names


def test_the_demo_model_answers(page: Page) -> None:
    """The page, the server and the demo model together give the right sum, and show a rate."""
    with demo_server() as url:
        page.goto(url)
        page.get_by_role("button", name="What is 17 plus 25?").click()
        reply = page.get_by_label("Reply")
        expect(reply).to_have_attribute("data-state", "done")
        expect(reply).to_contain_text("42")
        expect(reply).to_contain_text("tokens/s")
