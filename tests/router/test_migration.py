"""Mode prefix: when a request leaves the server that has its prefix cached, the prefix moves with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from mlc_serve.router.backend import Backend
from mlc_serve.router.fleet import Fleet
from mlc_serve.router.migration import Migration
from mlc_serve.router.prefix_map import PrefixMap
from mlc_serve.router.prompt import Prompt
from tests.patience import PATIENCE
from tests.router.running_router import RunningRouter, running_router
from tests.router.scripted_server import json_reply, scripted
from tests.router.test_disaggregation import LONG, Calls, body, outcomes, paths, released
from tests.router.test_moved_prompts import GREEDY, PROMPT, answer, caching_server, num_moved

NOT_FOUND = json_reply(b"{}", b"404 Not Found")
PAGES = [b"%d" % number for number in range(10)]


@asynccontextmanager
async def full_holder(
    router: RunningRouter, text: str, path: str = "/v1/chat/completions"
) -> AsyncIterator[str]:
    """Send a prompt, then fill the server that has it; yield its name."""
    prompt = {"prompt": text} if path == "/v1/completions" else {"messages": of_user(text)}
    reply = await router.client.post(path, json={**prompt, **GREEDY})
    holder = router.router.fleet[reply.headers["x-routed-to"]]
    with router.router.fleet.running(holder):
        yield holder.name


def of_user(text: str) -> list[dict[str, str]]:
    """A conversation with one message."""
    return [{"role": "user", "content": text}]


async def test_the_prefix_follows_its_request() -> None:
    """The other server gets what the full one has, and the share of the prompt that is new is left to it."""
    async with (
        scripted(Calls()) as one,
        scripted(Calls()) as other,
        running_router(one.url, other.url, max_server_requests=1) as router,
        full_holder(router, LONG) as name,
    ):
        holder, receiver = (one, other) if one.name == name else (other, one)
        messages = [*of_user(LONG), {"role": "assistant", "content": "A" * len(LONG)}]
        reply = await router.client.post("/v1/chat/completions", json={"messages": messages})
        assert reply.headers["x-routed-to"] == receiver.name
        await released(receiver, router)
        assert paths(holder) == ["completions", "remote_send"]
        assert paths(receiver) == ["tokenize", "prep_recv", "completions", "abort"]
        assert 230 < body(receiver, "prep_recv")["end"] < 270  # of 500 tokens
        assert 'outcome="moved"} 1.0' in await outcomes(router)


async def test_servers_that_can_not_move_prefixes_are_not_asked_again_at_once() -> None:
    """The request is answered without the prefix, and so is the next one, without a call before it."""
    async with (
        scripted(Calls(prep_recv=NOT_FOUND, tokenize=NOT_FOUND)) as one,
        scripted(Calls(prep_recv=NOT_FOUND, tokenize=NOT_FOUND)) as other,
        running_router(one.url, other.url, max_server_requests=1) as router,
        full_holder(router, LONG) as name,
    ):
        receiver = other if one.name == name else one
        for number in range(2):
            reply = await router.chat(f"{LONG} {number} {LONG}")
            assert (reply.status_code, reply.headers["x-routed-to"]) == (200, receiver.name)
        assert paths(receiver) == ["tokenize", "completions", "completions"]
        assert 'outcome="failed"} 1.0' in await outcomes(router)


@pytest.mark.parametrize("text", ["short", LONG])
async def test_a_prompt_that_nobody_else_has_costs_no_call(text: str) -> None:
    """Nor does a short one."""
    async with (
        scripted(Calls()) as one,
        scripted(Calls()) as other,
        running_router(one.url, other.url, max_server_requests=1) as router,
        full_holder(router, "short" if text == LONG else text),
    ):
        await router.chat(text)
        assert [*paths(one), *paths(other)] == ["completions", "completions"]


async def test_the_answer_is_that_of_one_server() -> None:
    """Between real servers, the text is the same, and what was moved is not computed again."""
    path = "/v1/completions"
    with caching_server() as one, caching_server() as other:
        async with (
            running_router(one.url, other.url, max_server_requests=1, move_min_tokens=16) as router,
            httpx.AsyncClient(base_url=one.url, timeout=PATIENCE, trust_env=False) as alone,
            full_holder(router, PROMPT, path),
        ):
            fields: dict[str, Any] = {"prompt": f"{PROMPT} And then it sleeps.", **GREEDY}
            expected = await answer(alone, path, {**fields, "cache_salt": "of its own"})
            reply = await answer(router.client, path, fields)
            assert reply["choices"][0]["text"] == expected["choices"][0]["text"]
            usage = reply["usage"]
            assert usage["prompt_tokens_details"]["cached_tokens"] > 0.7 * usage["prompt_tokens"]
            assert await num_moved(router) == 1


def test_which_server_sends() -> None:
    """The one that has the most of the prompt, as long as it answers and has enough that is new; after a
    failure it is not asked for a while.
    """
    now, prefixes = [0.0], PrefixMap()
    near, far, decoder = (Backend(name, None, is_up=True) for name in ("near", "far", "decoder"))
    fleet = Fleet([near, far, decoder], prefixes.forget)
    policy = Migration(fleet, prefixes, 16 * 4, clock=lambda: now[0])
    prompt = Prompt(None, PAGES)
    assert policy.choose(prompt, decoder) is None
    prefixes.record("near", PAGES[:5])
    prefixes.record("far", PAGES[:8])
    prefixes.record("decoder", PAGES[:1])
    move = policy.choose(prompt, decoder)
    assert move is not None
    assert (move.sender, round(move.decode_share, 3)) == (far, 0.2)
    far.is_up = False
    assert (found := policy.choose(prompt, decoder)) is not None
    assert found.sender is near
    policy.failed(near, decoder)
    assert policy.choose(prompt, decoder) is None
    now[0] = 31.0
    assert policy.choose(prompt, decoder) is not None
    prefixes.record("decoder", PAGES[:2])
    assert policy.choose(prompt, decoder) is None
