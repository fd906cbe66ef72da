"""Which server gets a request: by prefix, load, the response that it continues, or as a subclass says."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from mlc_serve.router.message import ReplyHead, ReplyPart, RoutedRequest
from mlc_serve.router.router import Router
from tests.e2e.live_server import live_server
from tests.router.running_router import RunningRouter, running_router
from tests.router.scripted_server import (
    UNKNOWN,
    Asked,
    ScriptedServer,
    answering,
    json_reply,
    metrics_reply,
    scripted,
)

OK = json_reply(b"{}")
LONG = "This is a prompt of several pages, which begins like no other one. " * 10


@asynccontextmanager
async def servers(number: int) -> AsyncIterator[list[ScriptedServer]]:
    """Servers that answer everything."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(scripted(answering(OK))) for _ in range(number)]


async def test_a_conversation_stays_on_its_server() -> None:
    """Each turn goes where the ones before are cached, and other conversations are spread evenly."""
    async with servers(3) as three, running_router(*(server.url for server in three)) as router:
        used = Counter[str]()
        for number in range(9):
            messages = [{"role": "user", "content": f"{number} {LONG}"}]
            routed = set()
            for turn in range(4):
                body = {"messages": messages}
                reply = await router.client.post("/v1/chat/completions", json=body)
                routed.add(reply.headers["x-routed-to"])
                messages = [*messages, {"role": "assistant", "content": f"{turn} {LONG}"}]
            assert len(routed) == 1
            used.update(routed)
        assert sorted(used.values()) == [3, 3, 3]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": LONG}]}),
        ("/v1/completions", {"prompt": LONG}),
        ("/v1/completions", {"prompt": list(range(1000))}),
        ("/v1/messages", {"system": LONG, "messages": []}),
        ("/v1/responses", {"instructions": LONG, "input": "x"}),
    ],
)
async def test_prompts_of_every_api_are_recognized(path: str, field: dict[str, object]) -> None:
    """The same prompt goes to the same server, although that one was used last."""
    async with servers(3) as three, running_router(*(server.url for server in three)) as router:
        replies = [await router.client.post(path, json={"model": "m", **field}) for _ in range(5)]
        assert len({reply.headers["x-routed-to"] for reply in replies}) == 1
        other = await router.client.post(path, json={"model": "other", **field})
        assert other.headers["x-routed-to"] != replies[0].headers["x-routed-to"]


async def test_the_least_loaded_server_gets_the_request() -> None:
    """In mode round-robin, prefixes make no difference."""
    held = asyncio.Event()

    async def answer(asked: Asked) -> None:
        await held.wait()
        await asked.send(OK)

    async with (
        scripted(answer) as one,
        scripted(answer) as other,
        running_router(one.url, other.url, router_mode="round-robin") as router,
    ):
        asking = [asyncio.create_task(router.chat(LONG)) for _ in range(6)]
        await router.until(lambda own: own.fleet.num_running == 6)
        assert [backend.num_running for backend in router.router.fleet] == [3, 3]
        held.set()
        await asyncio.gather(*asking)


async def test_what_others_have_sent_a_server_is_load_too() -> None:
    """The server that reports requests of others gets none until these have ended."""
    busy = metrics_reply('mlc_serve_requests_running{model="m"} 2\nmlc_serve_requests_waiting{model="m"} 1\n')
    async with servers(2) as (one, other), running_router(one.url, other.url) as router:
        one.metrics = busy
        await router.until(lambda own: own.fleet[one.name].load == 3)
        used = [(await router.chat(str(number))).headers["x-routed-to"] for number in range(3)]
        assert used == [other.name] * 3
        text = (await router.client.get("/metrics")).text
        assert f'mlc_serve_router_other_requests{{server="{one.name}"}} 3.0' in text
        one.metrics = UNKNOWN
        await router.until(lambda own: own.fleet[one.name].load == 0)
        assert (await router.chat("4")).headers["x-routed-to"] == one.name


async def test_the_router_s_own_requests_are_no_others() -> None:
    """Of what a server reports, only what exceeds the requests from this router adds to its load."""
    held = asyncio.Event()

    async def answer(asked: Asked) -> None:
        await held.wait()
        await asked.send(OK)

    async with scripted(answer) as server, running_router(server.url) as router:
        asking = [asyncio.create_task(router.chat(str(number))) for number in range(2)]
        backend = router.router.fleet[server.name]
        await router.until(lambda _: backend.num_running == 2)
        server.metrics = metrics_reply("mlc_serve_requests_running 5\n")
        await router.until(lambda _: backend.num_others)
        assert (backend.num_others, backend.load) == (3, 5)
        held.set()
        await asyncio.gather(*asking)


async def test_requests_without_a_prompt_are_spread() -> None:
    """Bodies that are no JSON, or no object, are for the servers to refuse."""
    async with servers(2) as two, running_router(*(server.url for server in two)) as router:
        used = Counter[str]()
        for content in (b"{", b"[]", b"[" * 5000, b'"\xff"', b"", b"1" * 5000):
            reply = await router.client.post("/v1/completions", content=content)
            used[reply.headers["x-routed-to"]] += 1
        assert set(used.values()) == {3}


async def created(router: RunningRouter, text: str, **fields: object) -> tuple[str, str]:
    """Make a response; its id, and the server that has made it."""
    reply = await router.client.post("/v1/responses", json={"input": text, "max_output_tokens": 3, **fields})
    assert reply.status_code == 200, reply.text
    if fields.get("stream"):
        event = json.loads(reply.text.split("data: ", 1)[1].split("\n")[0])
        return event["response"]["id"], reply.headers["x-routed-to"]
    return reply.json()["id"], reply.headers["x-routed-to"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stored_response_is_asked_for_where_it_is(stream: bool) -> None:
    """Continuing, reading and deleting go to its server, also through a router that did not see it made."""
    with live_server() as one, live_server() as other:
        async with running_router(one.url, other.url) as router:
            made = [await created(router, str(number), stream=stream) for number in range(4)]
            assert {server for _, server in made} == {
                url.removeprefix("http://") for url in (one.url, other.url)
            }
            for response_id, server in made:
                _, continued_on = await created(router, "more", previous_response_id=response_id)
                assert continued_on == server
        async with running_router(one.url, other.url) as router:
            for response_id, server in made:
                got = await router.client.get(f"/v1/responses/{response_id}")
                assert (got.status_code, got.headers["x-routed-to"]) == (200, server)
                deleted = await router.client.delete(f"/v1/responses/{response_id}")
                assert (deleted.status_code, deleted.headers["x-routed-to"]) == (200, server)
                assert (await router.client.get(f"/v1/responses/{response_id}")).status_code == 404
            unknown = await router.client.get("/v1/responses/resp_a%0d%0ab")
            assert unknown.status_code == 404


async def test_a_response_whose_server_is_out_is_not_asked_for_elsewhere() -> None:
    """No other server has it, so the client is told to try later."""
    stored = json_reply(b'{"id": "resp_1"}')
    async with (
        scripted(answering(stored)) as one,
        scripted(answering(stored)) as other,
        running_router(one.url, other.url) as router,
    ):
        _, name = await created(router, "x")
        router.router.fleet.move(name, None)
        reply = await router.client.get("/v1/responses/resp_1")
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "no_server_available")


async def test_replies_are_those_of_the_servers() -> None:
    """Through the router, real servers give the same text, whole and streamed, chat and completions."""
    with live_server() as one, live_server() as other:
        async with running_router(one.url, other.url) as router:
            for number in range(2):
                body = {"prompt": f"{number} Hello", "max_tokens": 5, "temperature": 0}
                reply = await router.client.post("/v1/completions", json=body)
                text = reply.json()["choices"][0]["text"]
                streamed = await router.client.post("/v1/completions", json={**body, "stream": True})
                events = [line[6:] for line in streamed.text.split("\n\n") if line]
                assert events.pop() == "[DONE]"
                chunks = [json.loads(event)["choices"] for event in events]
                assert "".join(choices[0]["text"] for choices in chunks if choices) == text
            tokens = await router.client.post("/tokenize", json={"prompt": "Hello"})
            assert tokens.json()["count"] == 6


class TwoServers(Router):
    """Asks the first server for requests that name it, answers some itself, and changes the others."""

    async def translate_request(
        self, request: RoutedRequest, request_id: str
    ) -> AsyncGenerator[ReplyPart, None]:
        if request.path == "/own":
            yield ReplyHead(200, ((b"content-type", b"text/plain"),))
            yield request_id.encode()
            return
        changed = request._replace(body=b'{"changed": true}')
        async for part in super().translate_request(changed, request_id):
            yield part


async def test_a_subclass_may_route_in_its_own_way() -> None:
    """`translate_request` is asked for every request, and may answer it or pass on another one."""
    async with servers(1) as (server,), running_router(server.url, router_type=TwoServers) as router:
        own = await router.client.get("/own", headers={"X-Request-Id": "me"})
        assert own.text == "me"
        await router.chat()
        assert server.received[0].body == b'{"changed": true}'
