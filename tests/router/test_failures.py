"""When servers fail, no request is lost silently: it ends elsewhere, or with an error in its API's form."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mlc_serve.config import ServerConfig
from tests.patience import PATIENCE
from tests.router.running_router import running_router
from tests.router.scripted_server import (
    END,
    SICK,
    STREAM,
    Asked,
    answering,
    chunk,
    json_reply,
    scripted,
)
from tests.supervisor.supervised import free_port

OK = json_reply(b"{}")
FULL = json_reply(b'{"error":{"code":"queue_full"}}', b"429 Too Many Requests", b"Retry-After: 7\r\n")
KILLED_SERVER = Path(__file__).with_name("killed_server.py")


class KilledServer:
    """A server's process, which a test kills."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.url = f"http://127.0.0.1:{port}"

    async def kill_while_answering(self) -> None:
        """Wait until it has begun to answer, and kill it."""
        assert self._process.stdout is not None
        assert await self._process.stdout.readline() == b"answering\n"
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()


@asynccontextmanager
async def to_be_killed() -> AsyncIterator[KilledServer]:
    """A running server of that kind."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(KILLED_SERVER), "0"), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield KilledServer(process, int(await process.stdout.readline()))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def cut(asked: Asked) -> None:
    """An answer that never comes."""
    asked.cut()


async def test_a_request_whose_server_is_killed_is_answered_by_another() -> None:
    """Nothing of the reply was there yet, so the client notices nothing but the name of the other server."""
    async with (
        to_be_killed() as killed,
        scripted(answering(OK)) as other,
        running_router(killed.url, other.url) as router,
    ):
        # The other one is busier, as far as the router knows.
        with router.router.fleet.running(router.router.fleet[other.name]):
            asking = asyncio.create_task(router.chat())
            await killed.kill_while_answering()
            reply = await asking
        assert (reply.status_code, reply.headers["x-routed-to"]) == (200, other.name)
        text = (await router.client.get("/metrics")).text
    assert 'mlc_serve_router_retries_total{reason="lost"} 1.0' in text


async def test_a_stream_whose_server_is_killed_ends_with_an_error() -> None:
    """The client gets all events that there were, then an error event and the end."""
    async with to_be_killed() as killed, running_router(killed.url) as router:
        asking = asyncio.create_task(router.chat(stream=True))
        await killed.kill_while_answering()
        reply = await asking
        events = reply.text.split("\n\n")
        assert events[:2] == ["data: 1", "data: 2"]
        assert '"code":"server_lost"' in events[2].replace(" ", "")
        assert events[3:] == ["data: [DONE]", ""]
        assert router.router.fleet.num_running == router.num_busy == 0


@pytest.mark.parametrize(
    ("path", "beginning"),
    [
        ("/v1/chat/completions", 'data: {"error"'),
        ("/v1/completions", 'data: {"error"'),
        ("/v1/messages", 'event: error\ndata: {"type":"error"'),
        ("/v1/responses", 'event: error\ndata: {"error"'),
    ],
)
async def test_a_broken_stream_ends_in_the_form_of_its_api(path: str, beginning: str) -> None:
    """The error is an event of its own, even if the server was lost in the middle of another one."""

    async def answer(asked: Asked) -> None:
        await asked.send(STREAM, chunk(b"data: 1\n\ndata: {"))
        asked.cut()

    async with scripted(answer) as server, running_router(server.url) as router:
        reply = await router.client.post(path, json={"stream": True})
    first, error, *_ = reply.text.split("\n\n")
    assert first == "data: 1"
    assert error.startswith(beginning)


async def test_a_whole_reply_that_breaks_off_comes_from_another_server() -> None:
    """A short reply is kept until it is complete."""

    async def answer(asked: Asked) -> None:
        await asked.send(json_reply(b'{"half": 1')[:-3])
        asked.cut()

    async with (
        scripted(answer) as broken,
        scripted(answering(OK)) as other,
        running_router(broken.url, other.url) as router,
    ):
        with router.router.fleet.running(router.router.fleet[other.name]):
            reply = await router.chat()
    assert (reply.status_code, reply.content, len(broken.received)) == (200, b"{}", 1)


async def test_a_request_is_repeated_once() -> None:
    """If the second server is lost as well, the client is told."""
    async with (
        scripted(cut) as one,
        scripted(cut) as two,
        scripted(cut) as three,
        running_router(one.url, two.url, three.url) as router,
    ):
        reply = await router.chat()
        assert (reply.status_code, reply.json()["error"]["code"]) == (502, "server_lost")
        assert [bool(server.received) for server in (one, two, three)].count(True) == 2
        assert router.router.fleet.num_running == 0


async def test_what_may_change_something_is_not_repeated() -> None:
    """A server that was lost may have done what it was asked for."""
    async with scripted(cut) as one, scripted(cut) as two, running_router(one.url, two.url) as router:
        reply = await router.client.post("/debug/reset", json={})
        assert reply.status_code == 502
    assert len(one.received) + len(two.received) == 1


async def test_a_server_without_room_is_passed_over() -> None:
    """The request goes to another one, and so do the next ones for as long as the first one says."""
    async with (
        scripted(answering(FULL)) as full,
        scripted(answering(OK)) as other,
        running_router(full.url, other.url) as router,
    ):
        for _ in range(4):
            reply = await router.chat()
            assert (reply.status_code, reply.headers["x-routed-to"]) == (200, other.name)
        assert len(full.received) <= 1


async def test_if_nobody_has_room_the_client_is_told() -> None:
    """The refusal is that of the last server that was asked; at most three are."""
    async with (
        scripted(answering(FULL)) as full,
        scripted(answering(FULL)) as other,
        running_router(full.url, other.url) as router,
    ):
        for _ in range(2):
            reply = await router.chat()
            assert (reply.status_code, reply.headers["retry-after"]) == (429, "7")
            assert reply.json()["error"]["code"] == "queue_full"


async def test_servers_may_be_limited() -> None:
    """If every server has as many requests as it may have, further ones are refused."""
    async with scripted(answering(OK)) as server, running_router(server.url, max_server_requests=1) as router:
        (backend,) = router.router.fleet
        with router.router.fleet.running(backend):
            reply = await router.chat()
            assert (reply.status_code, reply.json()["error"]["code"]) == (429, "queue_full")
        assert (await router.chat()).status_code == 200


async def test_a_server_may_be_down_at_the_start() -> None:
    """Until a server is there, requests are refused in the form of their API; then they are answered."""
    port = free_port()
    async with running_router(f"http://127.0.0.1:{port}") as router:
        refused = await router.client.post("/v1/messages", json={})
        assert (refused.status_code, refused.json()["error"]["type"]) == (503, "overloaded_error")
        assert "retry-after" in refused.headers
        assert (await router.client.get("/ready")).status_code == 503
        assert (await router.client.get("/health")).status_code == 200
        async with scripted(answering(OK), port):
            await router.until(lambda own: own.fleet.up)
            assert (await router.client.get("/ready")).status_code == 200
            assert (await router.chat()).status_code == 200


async def test_a_sick_server_is_out_until_it_is_well() -> None:
    """Two failed probes take a server out, and one success brings it back without what it had cached."""
    async with (
        scripted(answering(OK)) as server,
        scripted(answering(OK)) as other,
        running_router(server.url, other.url) as router,
    ):
        text = "one long prompt " * 20
        fleet = router.router.fleet
        with fleet.running(fleet[other.name]):
            assert (await router.chat(text)).headers["x-routed-to"] == server.name
        server.probe = SICK
        await router.until(lambda own: not own.fleet[server.name].is_up)
        assert (await router.chat(text)).headers["x-routed-to"] == other.name
        server.probe = json_reply(b"{}")
        await router.until(lambda own: own.fleet[server.name].is_up)
        assert (await router.chat(text)).headers["x-routed-to"] == other.name


async def test_a_client_that_goes_away_ends_its_request() -> None:
    """The connection to the server is closed, streaming or not, and all counters return to zero."""
    gone = asyncio.Queue[None]()
    begun = asyncio.Queue[None]()

    async def answer(asked: Asked) -> None:
        if b"stream" in asked.request.body:
            await asked.send(STREAM, chunk(b"data: 1\n\n"))
        begun.put_nowait(None)
        await asked.gone()
        gone.put_nowait(None)

    async with (
        scripted(answer) as one,
        scripted(answer) as other,
        running_router(one.url, other.url) as router,
    ):
        for _ in range(10):
            forms: list[dict[str, Any]] = [{"stream": True}, {}] * 15
            asking = [asyncio.create_task(router.chat(**fields)) for fields in forms]
            for _ in asking:
                await begun.get()
            for task in asking:
                task.cancel()
            await asyncio.wait(asking)
            for _ in asking:
                await asyncio.wait_for(gone.get(), PATIENCE)
        await router.until(lambda own: own.fleet.num_running == 0)
        assert router.num_busy == 0
        text = (await router.client.get("/metrics")).text
    for server in (one, other):
        assert f'mlc_serve_router_running_requests{{server="{server.name}"}} 0.0' in text
        assert f'outcome="aborted",server="{server.name}"}} 150.0' in text


async def test_running_requests_are_finished_at_the_end() -> None:
    """While the router drains, new requests are refused, and the running one is completed."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def answer(asked: Asked) -> None:
        await asked.send(STREAM, chunk(b"data: 1\n\n"))
        begun.set()
        await go_on.wait()
        await asked.send(chunk(b"data: [DONE]\n\n"), END)

    patient = ServerConfig(port=0, shutdown_timeout=PATIENCE)
    async with scripted(answer) as server, running_router(server.url, server=patient) as router:
        asking = asyncio.create_task(router.chat(stream=True))
        await begun.wait()
        stopping = asyncio.create_task(router.service.stop())
        refused = await router.chat()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
        go_on.set()
        assert (await asking).text == "data: 1\n\ndata: [DONE]\n\n"
        await stopping


async def test_requests_that_outlast_the_end_are_told() -> None:
    """When the time is over, streams end with an error event."""
    begun = asyncio.Event()

    async def answer(asked: Asked) -> None:
        await asked.send(STREAM, chunk(b"data: 1\n\n"))
        begun.set()
        await asked.gone()

    async with scripted(answer) as server, running_router(server.url) as router:
        asking = asyncio.create_task(router.chat(stream=True))
        await begun.wait()
        await router.service.stop()
        assert '"error"' in (await asking).text
