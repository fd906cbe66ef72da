"""Prompts that a router moves between real servers: the text is the same, and little is computed twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from tests.e2e.live_server import LiveServer, live_server
from tests.patience import PATIENCE
from tests.router.running_router import running_router

PROMPT = "The quick brown fox jumps over the lazy dog, and it does so again and again. " * 4
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 8}
CHAT = ("/v1/chat/completions", {"messages": [{"role": "user", "content": PROMPT}]})
COMPLETION = ("/v1/completions", {"prompt": PROMPT})
TOKENS = ("/v1/completions", {"prompt": list(PROMPT.encode())})


@contextmanager
def caching_server() -> Iterator[LiveServer]:
    """A server that keeps prefixes."""
    with live_server(limits={"prefix_cache_mode": "radix"}) as server:
        yield server


def text_of(reply: httpx.Response) -> str:
    """The text of a whole reply."""
    assert reply.status_code == 200, reply.text
    (choice,) = reply.json()["choices"]
    text: str = choice["message"]["content"] if "message" in choice else choice["text"]
    return text


@pytest.mark.parametrize(("path", "fields"), [CHAT, COMPLETION, TOKENS], ids=["chat", "text", "token ids"])
@pytest.mark.parametrize("factor", ["0", "0.5", "auto"])
async def test_a_prompt_that_was_moved_is_continued_as_any_other(
    path: str, fields: dict[str, Any], factor: str
) -> None:
    """Whatever share is left to the decode server, the text is that of one server, and the rest is cached."""
    with caching_server() as prefill, caching_server() as decode, live_server() as alone:
        async with (
            running_router(
                decode.url,
                router_mode="disagg",
                prefill_backends=(prefill.url,),
                pd_balance_factor=factor,
                disagg_min_tokens=16,
            ) as router,
            httpx.AsyncClient(timeout=PATIENCE) as client,
        ):
            body = {**fields, **GREEDY}
            expected = text_of(await client.post(f"{alone.url}{path}", json=body))
            reply = await router.client.post(path, json=body)
            assert text_of(reply) == expected
            usage = reply.json()["usage"]
            share = usage["prompt_tokens_details"]["cached_tokens"] / usage["prompt_tokens"]
            assert share > (0.45 if factor == "0.5" else 0.9)
            text = (await router.client.get("/metrics")).text
    assert 'mlc_serve_router_transfers_total{outcome="moved"} 1.0' in text


@pytest.mark.parametrize(("path", "fields"), [CHAT, COMPLETION, TOKENS], ids=["chat", "text", "token ids"])
async def test_a_prefix_follows_a_request_away_from_a_busy_server(path: str, fields: dict[str, Any]) -> None:
    """In mode prefix, the server that gets the request finds what the busy one has cached."""
    with caching_server() as one, caching_server() as two, live_server() as alone:
        async with (
            running_router(one.url, two.url, migration_min_tokens=16) as router,
            httpx.AsyncClient(timeout=PATIENCE) as client,
        ):
            body = {**fields, **GREEDY}
            expected = text_of(await client.post(f"{alone.url}{path}", json=body))
            first = await router.client.post(path, json=body)
            fleet = router.router.fleet
            with ExitStack() as load:
                for _ in range(8):
                    load.enter_context(fleet.running(fleet[first.headers["x-routed-to"]]))
                second = await router.client.post(path, json=body)
            assert second.headers["x-routed-to"] != first.headers["x-routed-to"]
            assert text_of(first) == text_of(second) == expected
            usage = second.json()["usage"]
            assert usage["prompt_tokens_details"]["cached_tokens"] / usage["prompt_tokens"] > 0.9
            text = (await router.client.get("/metrics")).text
    assert 'mlc_serve_router_transfers_total{outcome="moved"} 1.0' in text
