"""Mode disagg: a prompt is computed on one server and moved to another, or it is not, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.router.running_router import RunningRouter, running_router
from tests.router.scripted_server import Asked, ScriptedServer, json_reply, scripted

LONG = "A prompt of many pages. " * 100
TOKENS = list(range(500))
Reply = bytes | Callable[[Asked], None]


class Calls:
    """Answers the calls by their path; whatever is not listed is answered with an empty object."""

    def __init__(self, **replies: Reply) -> None:
        self._replies: dict[str, Reply] = {
            "tokenize": json_reply(json.dumps({"count": 500, "tokens": TOKENS}).encode()),
            "prep_recv": json_reply(b'{"kv_append_metadata": "there", "prefix_matched_length": 16}'),
            **replies,
        }

    async def __call__(self, asked: Asked) -> None:
        name = asked.request.line.split()[1].rsplit(b"/", 1)[1].decode()
        reply = self._replies.get(name, json_reply(b"{}"))
        if isinstance(reply, bytes):
            await asked.send(reply)
        else:
            reply(asked)


def paths(server: ScriptedServer) -> list[str]:
    """The ends of the paths that a server was asked for, in their order."""
    return [request.line.split()[1].rsplit(b"/", 1)[1].decode() for request in server.received]


def body(server: ScriptedServer, path: str) -> dict[str, Any]:
    """The body of a server's only request for a path."""
    (found,) = [request for request in server.received if f"/{path} ".encode() in request.line]
    fields: dict[str, Any] = json.loads(found.body)
    return fields


@asynccontextmanager
async def pair(
    prefill: Calls, decode: Calls, **config: Any
) -> AsyncIterator[tuple[ScriptedServer, ScriptedServer, RunningRouter]]:
    """A server that prefills, one that generates, and a router in front of them."""
    async with (
        scripted(prefill) as sender,
        scripted(decode) as receiver,
        running_router(
            receiver.url, router_mode="disagg", prefill_backends=(sender.url,), **config
        ) as router,
    ):
        yield sender, receiver, router


async def released(receiver: ScriptedServer, router: RunningRouter) -> None:
    """Wait until a decode server has been told that a prefix was used."""
    await router.until(lambda _: "abort" in paths(receiver))


async def outcomes(router: RunningRouter) -> str:
    """The lines of /metrics that say what came of moving prompts."""
    text = (await router.client.get("/metrics")).text
    return "\n".join(
        line for line in text.splitlines() if line.startswith("mlc_serve_router_transfers_total")
    )


async def test_a_long_chat_is_computed_elsewhere() -> None:
    """The calls have the chat's token ids, salt and key; then the decode server gets the chat as it is."""
    async with pair(Calls(), Calls(), pd_balance_factor="0.2") as (sender, receiver, router):
        router.client.headers["Authorization"] = "Bearer k"
        reply = await router.chat(LONG, model="m", cache_salt="s", stream=False)
        assert (reply.status_code, reply.headers["x-routed-to"]) == (200, receiver.name)
        await released(receiver, router)
        assert paths(receiver) == ["tokenize", "prep_recv", "completions", "abort"]
        assert paths(sender) == ["remote_send"]
        prepared, sent = body(receiver, "prep_recv"), body(sender, "remote_send")
        user = prepared["user"]
        shared = {
            "prompt": TOKENS,
            "model": "m",
            "cache_salt": "s",
            "user": user,
            "end": 400,
            "max_tokens": 1,
        }
        assert prepared == shared
        assert sent == {**shared, "begin": 16, "kv_addr_info": "there"}
        assert body(receiver, "abort") == {"model": "m", "user": user}
        chat = body(receiver, "completions")
        assert chat["messages"] == [{"role": "user", "content": LONG}]
        keys = {request.headers[b"authorization"] for request in (*receiver.received, *sender.received)}
        assert keys == {b"Bearer k"}
        assert 'outcome="moved"} 1.0' in await outcomes(router)


async def test_a_prompt_that_is_known_there_is_not_moved_again() -> None:
    """Neither short prompts nor those that the decode server was sent before cost any call."""
    async with pair(Calls(), Calls()) as (sender, receiver, router):
        await router.chat("short")
        assert (paths(receiver), paths(sender)) == (["completions"], [])
        await router.chat(LONG)
        await released(receiver, router)
        await router.chat(f"{LONG} and no more")
        assert paths(receiver)[-1] == "completions"
        assert paths(sender) == ["remote_send"]
        assert 'outcome="bypassed"} 2.0' in await outcomes(router)


async def test_what_is_cached_is_not_sent() -> None:
    """If the decode server has all of it, the prefill server is not asked."""
    matched = json_reply(b'{"kv_append_metadata": "there", "prefix_matched_length": 499}')
    async with pair(Calls(), Calls(prep_recv=matched)) as (sender, receiver, router):
        await router.chat(LONG)
        await released(receiver, router)
        assert paths(sender) == []
        assert 'outcome="cached"} 1.0' in await outcomes(router)


async def test_token_ids_need_no_tokenizer() -> None:
    """A completion may have its prompt as token ids; several prompts are left to the decode server."""
    async with pair(Calls(), Calls(), disagg_min_tokens=10) as (sender, receiver, router):
        await router.client.post("/v1/completions", json={"prompt": TOKENS})
        await router.client.post("/v1/completions", json={"prompt": [LONG, LONG]})
        await released(receiver, router)
        assert body(sender, "remote_send")["prompt"] == TOKENS
        assert sorted(paths(receiver)) == ["abort", "completions", "completions", "prep_recv"]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/messages", {"messages": [{"role": "user", "content": LONG}], "max_tokens": 5}),
        ("/v1/responses", {"input": LONG, "cache_salt": "s"}),
    ],
)
async def test_conversations_of_other_apis_are_computed_elsewhere(path: str, fields: dict[str, Any]) -> None:
    """The decode server is asked for the tokens of the very request, and gets it as it is afterwards."""
    name = path.rsplit("/", 1)[1]
    tokens = json_reply(json.dumps({"count": 500, "tokens": TOKENS}).encode())
    async with pair(Calls(), Calls(**{name: tokens})) as (sender, receiver, router):
        await router.client.post(path, json=fields)
        await released(receiver, router)
        assert [request.line.split()[1].decode() for request in receiver.received] == [
            f"/tokenize/{name}",
            "/microserving/prep_recv",
            path,
            "/microserving/abort",
        ]
        bodies = [json.loads(request.body) for request in receiver.received]
        assert bodies[0] == bodies[2] == fields
        assert bodies[1]["prompt"] == body(sender, "remote_send")["prompt"] == TOKENS
        assert bodies[1].get("cache_salt") == fields.get("cache_salt")


async def test_a_response_that_continues_another_is_not_moved() -> None:
    """Its prompt is known only where that one is stored."""
    async with pair(Calls(), Calls()) as (sender, receiver, router):
        fields = {"input": LONG, "previous_response_id": "no id of a response"}
        await router.client.post("/v1/responses", json=fields)
        assert (paths(sender), paths(receiver)) == ([], ["responses"])
        assert 'outcome="bypassed"} 1.0' in await outcomes(router)


FULL = json_reply(b'{"error":{}}', b"503 Service Unavailable")


@pytest.mark.parametrize(
    ("prefill", "decode"),
    [
        (Calls(remote_send=FULL), Calls()),
        (Calls(remote_send=Asked.cut), Calls()),
        (Calls(), Calls(prep_recv=FULL)),
        (Calls(), Calls(prep_recv=json_reply(b"{}"))),
        (Calls(), Calls(prep_recv=json_reply(b"no json"))),
        (Calls(), Calls(tokenize=json_reply(b"[]"))),
        (Calls(), Calls(tokenize=Asked.cut)),
    ],
)
async def test_if_a_prompt_can_not_be_moved_the_decode_server_computes_it(
    prefill: Calls, decode: Calls
) -> None:
    """The client notices nothing, and the failure is counted."""
    async with pair(prefill, decode) as (_, receiver, router):
        reply = await router.chat(LONG)
        assert (reply.status_code, reply.headers["x-routed-to"]) == (200, receiver.name)
        assert paths(receiver).count("completions") == 1
        assert 'outcome="failed"} 1.0' in await outcomes(router)
        assert router.router.fleet.num_running == 0


async def test_a_client_that_goes_away_ends_the_transfer() -> None:
    """Both servers are told: one by the end of its connection, the other one by a call."""
    begun, gone = asyncio.Event(), asyncio.Event()

    async def prefill(asked: Asked) -> None:
        begun.set()
        await asked.gone()
        gone.set()

    async with (
        scripted(prefill) as sender,
        scripted(Calls()) as receiver,
        running_router(receiver.url, router_mode="disagg", prefill_backends=(sender.url,)) as router,
    ):
        asking = asyncio.create_task(router.chat(LONG))
        await begun.wait()
        asking.cancel()
        await gone.wait()
        await released(receiver, router)
        assert "completions" not in paths(receiver)
        assert router.router.fleet.num_running == 0


async def test_servers_that_prefill_generate_only_if_there_are_no_others() -> None:
    """Without a prefill server, prompts stay where they are; without a decode server, it takes its place."""
    async with pair(Calls(), Calls()) as (sender, receiver, router):
        router.router.fleet.move(receiver.name, None)
        reply = await router.chat(LONG)
        assert (reply.headers["x-routed-to"], paths(sender)) == (sender.name, ["completions"])
    async with pair(Calls(), Calls()) as (sender, receiver, router):
        router.router.fleet.move(sender.name, None)
        reply = await router.chat(LONG)
        assert (reply.headers["x-routed-to"], paths(receiver)) == (receiver.name, ["completions"])
