"""Mode disagg with real servers: the text is the same, and the decode server computes little of a prompt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest

from tests.e2e.live_server import LiveServer, live_server
from tests.patience import PATIENCE
from tests.router.running_router import RunningRouter, running_router

PROMPT = "The quick brown fox jumps over the lazy dog, and it does so again and again. " * 4
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 8}
MESSAGES = [{"role": "user", "content": PROMPT}]
CHAT = ("/v1/chat/completions", {"messages": MESSAGES})
COMPLETION = ("/v1/completions", {"prompt": PROMPT})
TOKENS = ("/v1/completions", {"prompt": list(PROMPT.encode())})
TOOL = {"name": "look_up", "parameters": {"type": "object", "properties": {"word": {"type": "string"}}}}


@contextmanager
def caching_server() -> Iterator[LiveServer]:
    """A server that keeps prefixes."""
    with live_server(limits={"prefix_cache_mode": "radix"}) as server:
        yield server


@asynccontextmanager
async def disaggregated(factor: str) -> AsyncIterator[tuple[RunningRouter, httpx.AsyncClient]]:
    """A router in front of a server that prefills and one that generates, and a client of a server alone."""
    with caching_server() as prefill, caching_server() as decode, live_server() as alone:
        async with (
            running_router(
                decode.url,
                router_mode="disagg",
                prefill_backends=(prefill.url,),
                pd_balance_factor=factor,
                disagg_min_tokens=16,
            ) as router,
            httpx.AsyncClient(base_url=alone.url, timeout=PATIENCE, trust_env=False) as client,
        ):
            yield router, client


async def answer(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The whole reply to a request that is answered."""
    reply = await client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


async def num_moved(router: RunningRouter) -> int:
    """How many prompts were moved."""
    lines = (await router.client.get("/metrics")).text.splitlines()
    name = 'mlc_serve_router_transfers_total{outcome="moved"} '
    return sum(int(float(line.removeprefix(name))) for line in lines if line.startswith(name))


@pytest.mark.parametrize(("path", "fields"), [CHAT, COMPLETION, TOKENS], ids=["chat", "text", "token ids"])
@pytest.mark.parametrize("factor", ["0", "0.5", "auto"])
async def test_a_prompt_that_was_moved_is_continued_as_any_other(
    path: str, fields: dict[str, Any], factor: str
) -> None:
    """Whatever share is left to the decode server, the text is that of one server, and the rest is cached."""
    body = {**fields, **GREEDY}
    async with disaggregated(factor) as (router, alone):
        (expected,) = (await answer(alone, path, body))["choices"]
        reply = await answer(router.client, path, body)
        (choice,) = reply["choices"]
        for name in {"message", "text"} & set(expected):
            assert choice[name] == expected[name]
        usage = reply["usage"]
        share = usage["prompt_tokens_details"]["cached_tokens"] / usage["prompt_tokens"]
        assert share > (0.45 if factor == "0.5" else 0.9)
        assert await num_moved(router) == 1


@pytest.mark.parametrize("tools", [[], [{**TOOL, "type": "function"}]], ids=["without tools", "with tools"])
async def test_the_prompt_of_a_response_is_moved(tools: list[dict[str, Any]]) -> None:
    """It is rendered as the server does that answers it."""
    body = {"input": PROMPT, "instructions": "Be brief.", "temperature": 0, "max_output_tokens": 8}
    async with disaggregated("0") as (router, alone):
        expected = await answer(alone, "/v1/responses", {**body, "tools": tools})
        reply = await answer(router.client, "/v1/responses", {**body, "tools": tools})
        assert [item["content"][0]["text"] for item in reply["output"]] == [
            item["content"][0]["text"] for item in expected["output"]
        ]
        usage = reply["usage"]
        assert usage["input_tokens_details"]["cached_tokens"] > 0.9 * usage["input_tokens"]
        assert await num_moved(router) == 1


@pytest.mark.parametrize("has_tools", [False, True])
async def test_the_prompt_of_a_message_is_moved(has_tools: bool) -> None:
    """It is rendered as the server does that answers it."""
    tool = {"name": TOOL["name"], "input_schema": TOOL["parameters"]}
    body = {**GREEDY, "system": "Be brief.", "messages": MESSAGES, **({"tools": [tool]} if has_tools else {})}
    async with disaggregated("0") as (router, alone):
        expected = await answer(alone, "/v1/messages", body)
        reply = await answer(router.client, "/v1/messages", body)
        assert reply["content"] == expected["content"]
        usage = reply["usage"]
        assert usage["cache_read_input_tokens"] > 9 * usage["input_tokens"]
        assert await num_moved(router) == 1


@pytest.mark.parametrize(("path", "fields"), [CHAT, COMPLETION, TOKENS], ids=["chat", "text", "token ids"])
async def test_a_prefix_follows_a_request_away_from_a_busy_server(path: str, fields: dict[str, Any]) -> None:
    """In mode prefix, the server that gets the request finds what the busy one has cached."""
    body = {**fields, **GREEDY}
    with caching_server() as one, caching_server() as two:
        async with running_router(one.url, two.url, migration_min_tokens=16) as router:
            first = await router.client.post(path, json=body)
            fleet, holder = router.router.fleet, first.headers["x-routed-to"]
            with ExitStack() as load:
                for _ in range(8):
                    load.enter_context(fleet.running(fleet[holder]))
                second = await router.client.post(path, json=body)
            assert second.headers["x-routed-to"] != holder
            (expected,), (choice,) = first.json()["choices"], second.json()["choices"]
            for name in {"message", "text"} & set(expected):
                assert choice[name] == expected[name]
            usage = second.json()["usage"]
            assert usage["prompt_tokens_details"]["cached_tokens"] / usage["prompt_tokens"] > 0.9
            assert await num_moved(router) == 1
