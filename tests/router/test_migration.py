"""Mode prefix: a prefix follows a request that is sent away from its server, or it does not, harmlessly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from mlc_serve.router import migration
from tests.router.running_router import RunningRouter, running_router
from tests.router.scripted_server import Asked, ScriptedServer, json_reply, scripted
from tests.router.test_disaggregation import LONG, TOKENS, Calls, body, outcomes, paths, released

MATCH = json_reply(b'{"prefix_matched_length": 480}')
MORE = f"{LONG} And a question."


@asynccontextmanager
async def moved_away(
    holder: Calls, other: Calls, **config: Any
) -> AsyncIterator[tuple[ScriptedServer, ScriptedServer, RunningRouter]]:
    """A server that has a long prompt cached and much to do, another one, and a router in front of them."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(scripted(calls)) for calls in (holder, other)]
        router = await stack.enter_async_context(
            running_router(*(server.url for server in servers), **config)
        )
        fleet = router.router.fleet
        with fleet.running(fleet[servers[1].name]):
            assert (await router.chat(LONG, model="m")).headers["x-routed-to"] == servers[0].name
        for _ in range(8):
            stack.enter_context(fleet.running(fleet[servers[0].name]))
        yield servers[0], servers[1], router


async def test_a_prefix_follows_a_request_that_is_sent_away() -> None:
    """The holder is asked what it has, and sends just that, under the client's key, salt and model."""
    async with moved_away(Calls(match=MATCH), Calls()) as (holder, other, router):
        router.client.headers["Authorization"] = "Bearer k"
        reply = await router.chat(MORE, model="m", cache_salt="s")
        assert (reply.status_code, reply.headers["x-routed-to"]) == (200, other.name)
        await released(other, router)
        assert paths(holder) == ["completions", "match", "remote_send"]
        assert paths(other) == ["tokenize", "prep_recv", "completions", "abort"]
        user = body(other, "prep_recv")["user"]
        asked = {"prompt": TOKENS, "model": "m", "cache_salt": "s", "user": user, "max_tokens": 1}
        assert body(holder, "match") == asked
        assert body(other, "prep_recv") == {**asked, "end": 480}
        sent = {**asked, "end": 480, "begin": 16, "kv_addr_info": "there"}
        assert body(holder, "remote_send") == sent
        calls = [*holder.received[1:], *other.received]
        assert {request.headers[b"authorization"] for request in calls} == {b"Bearer k"}
        assert 'outcome="moved"} 1.0' in await outcomes(router)
        text = (await router.client.get("/metrics")).text
        assert "mlc_serve_router_moved_tokens_total 464.0" in text


@pytest.mark.parametrize("config", [{"migration_min_tokens": 0}, {"migration_min_tokens": 10_000}])
async def test_what_saves_too_little_by_estimate_costs_no_call(config: dict[str, Any]) -> None:
    """With too few tokens, or without migration, the request is passed on as it is."""
    async with moved_away(Calls(match=MATCH), Calls(), **config) as (holder, other, router):
        assert (await router.chat(MORE, model="m")).headers["x-routed-to"] == other.name
        assert (paths(holder), paths(other)) == (["completions"], ["completions"])


async def test_what_the_holder_has_evicted_is_not_moved() -> None:
    """The holder is not made to compute what it has no longer, nor the other server to take pages for it."""
    evicted = Calls(match=json_reply(b'{"prefix_matched_length": 32}'))
    async with moved_away(evicted, Calls()) as (holder, other, router):
        assert (await router.chat(MORE, model="m")).headers["x-routed-to"] == other.name
        assert (paths(holder)[1:], paths(other)) == (["match"], ["tokenize", "completions"])
        assert 'outcome="bypassed"} 1.0' in await outcomes(router)


def hang(asked: Asked) -> None:
    """Answer nothing."""


def cut(asked: Asked) -> None:
    """Close the connection."""
    asked.cut()


REFUSED = json_reply(b'{"error": {"message": "no"}}', b"503 Service Unavailable")
UNKNOWN = json_reply(b'{"detail": "Not Found"}', b"404 Not Found")


@pytest.mark.parametrize(
    ("at_holder", "at_other"),
    [
        ({"match": UNKNOWN}, {}),
        ({"match": json_reply(b'{"prefix_matched_length": "all"}')}, {}),
        ({"match": hang}, {}),
        ({"match": cut}, {}),
        ({"match": MATCH, "remote_send": REFUSED}, {}),
        ({"match": MATCH, "remote_send": hang}, {}),
        ({"match": MATCH, "remote_send": cut}, {}),
        ({"match": MATCH}, {"prep_recv": REFUSED}),
        ({"match": MATCH}, {"tokenize": UNKNOWN}),
    ],
    ids=[
        "another make",
        "no number",
        "hangs at match",
        "lost at match",
        "does not send",
        "hangs at remote_send",
        "lost at remote_send",
        "does not receive",
        "does not tell tokens",
    ],
)
async def test_a_failure_costs_nothing_but_a_bounded_time(
    at_holder: dict[str, Any], at_other: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a server does, the request is answered, and no other one waits for these two soon."""
    if hang in at_holder.values():
        monkeypatch.setattr(migration, "_MOST_SECONDS", 0.2)
    async with moved_away(Calls(**at_holder), Calls(**at_other)) as (holder, other, router):
        reply = await router.chat(MORE, model="m")
        assert (reply.status_code, reply.headers["x-routed-to"]) == (200, other.name)
        assert 'outcome="failed"} 1.0' in await outcomes(router)
        num_asked = len(holder.received)
        with router.router.fleet.running(router.router.fleet[other.name]):
            again = {"messages": [{"role": "user", "content": LONG}, {"role": "user", "content": LONG}]}
            router.router.prefixes.forget(other.name)
            reply = await router.client.post("/v1/chat/completions", json={**again, "model": "m"})
        assert (reply.status_code, len(holder.received)) == (200, num_asked)
        assert reply.headers["x-routed-to"] == other.name
        await router.until(lambda own: own.fleet.num_running == 8)


async def test_one_prefix_at_a_time_moves_between_two_servers() -> None:
    """Requests that come meanwhile are passed on, so that one slow move does not hold up all of them."""
    waiting: list[Asked] = []
    async with moved_away(Calls(match=waiting.append), Calls(), load_weight=1) as (holder, other, router):
        async with AsyncExitStack() as stack:
            first = asyncio.create_task(router.chat(MORE, model="m"))
            stack.callback(first.cancel)
            await router.until(lambda _: waiting)
            assert (await router.chat(MORE, model="m")).headers["x-routed-to"] == other.name
            await waiting[0].send(MATCH)
            assert (await first).status_code == 200
        assert paths(holder).count("match") == paths(holder).count("remote_send") == 1
