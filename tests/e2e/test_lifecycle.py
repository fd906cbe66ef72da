"""Real server processes: how they start, drain, give up and end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlc_serve.errors import EXIT_ENGINE_DEAD, EXIT_OK
from tests.patience import PATIENCE

SCRIPT = Path(__file__).with_name("fake_server.py")
ROOT = SCRIPT.parents[2]
STREAM = {"model": "fake", "prompt": "Hello", "max_tokens": 10, "ignore_eos": True, "stream": True}


class ServerProcess:
    """A running fake_server.py."""

    def __init__(self, shutdown_timeout: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(shutdown_timeout)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._log = ""
        self._logged = threading.Condition()
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()
        assert self._process.stdout is not None
        announcement = self._process.stdout.readline()
        found = re.fullmatch(r"Serving fake, other on (http://127\.0\.0\.1:\d+)\n", announcement)
        assert found, announcement + self._log
        self.url = found[1]

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._logged:
                self._log += line
                self._logged.notify_all()

    def wait_for_log(self, text: str) -> None:
        """Wait until the process has logged a text."""
        with self._logged:
            assert self._logged.wait_for(lambda: text in self._log, timeout=PATIENCE), self._log

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def release(self) -> None:
        """Let the fake device go on."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def exit_code(self) -> int:
        """Wait for the end of the process, and return its exit code."""
        return self._process.wait(timeout=PATIENCE)

    def close(self) -> None:
        """End the process if it has not ended, and close its pipes."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()


Start = Callable[..., ServerProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    """A function that starts servers, which are ended after the test."""
    servers: list[ServerProcess] = []

    def start_one(shutdown_timeout: float = PATIENCE) -> ServerProcess:
        servers.append(ServerProcess(shutdown_timeout))
        return servers[-1]

    yield start_one
    for server in servers:
        server.close()


def post(server: ServerProcess, body: dict[str, Any]) -> httpx.Response:
    """Ask for a completion."""
    return httpx.post(f"{server.url}/v1/completions", json=body, timeout=PATIENCE)


@contextmanager
def open_stream(server: ServerProcess) -> Iterator[Iterator[Any]]:
    """A stream in flight: its events as they come, decoded from JSON except for [DONE]."""
    with httpx.stream("POST", f"{server.url}/v1/completions", json=STREAM, timeout=PATIENCE) as reply:
        assert reply.status_code == 200
        data = (line.removeprefix("data: ") for line in reply.iter_lines() if line.startswith("data: "))
        yield (event if event == "[DONE]" else json.loads(event) for event in data)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(start: Start, number: signal.Signals) -> None:
    """A stream in flight is finished, new requests are refused, and the exit code is 0."""
    server = start()
    with open_stream(server) as events:
        next(events)
        server.signal(number)
        server.wait_for_log(f"{number.name}: finishing")
        assert httpx.get(f"{server.url}/ready", timeout=PATIENCE).status_code == 503
        assert httpx.get(f"{server.url}/health", timeout=PATIENCE).status_code == 200
        refused = post(server, STREAM)
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        server.release()
        *_, last, done = events
    assert last["choices"][0]["finish_reason"] == "length"
    assert done == "[DONE]"
    assert server.exit_code() == EXIT_OK


def test_a_drain_sends_clients_elsewhere(start: Start) -> None:
    """A connection that is kept for further requests is closed when the drain begins, and a new one after its
    refusal, so that the client's next request can reach another server. The stream in flight is not touched.
    """
    server = start()
    kept, late = (HTTPConnection(httpx.URL(server.url).netloc.decode(), timeout=PATIENCE) for _ in range(2))
    with open_stream(server) as events, closing(kept), closing(late):
        next(events)
        assert status_of(kept, "/health") == 200
        server.signal(signal.SIGTERM)
        assert kept.sock.recv(1) == b""
        assert status_of(late, "/v1/completions", b'{"prompt": "x"}') == 503
        assert late.sock.recv(1) == b""
        server.release()
        *_, done = events
    assert done == "[DONE]"
    assert server.exit_code() == EXIT_OK


def status_of(connection: HTTPConnection, path: str, body: bytes | None = None) -> int:
    """The status of the reply to one request, whose body is read."""
    connection.request("GET" if body is None else "POST", path, body)
    with connection.getresponse() as reply:
        reply.read()
        return reply.status


def test_the_drain_ends_in_time(start: Start) -> None:
    """A stream that outlasts the time-out gets an error event, even if the device hangs; exit code 0."""
    server = start(shutdown_timeout=0.1)
    with open_stream(server) as events:
        next(events)
        server.signal(signal.SIGTERM)
        *_, error, done = events
    assert error["error"]["code"] == "shutting_down"
    assert done == "[DONE]"
    assert server.exit_code() == EXIT_OK


def test_a_second_signal_ends_at_once(start: Start) -> None:
    """A second signal ends the process without waiting, with 128 plus its number as the exit code."""
    server = start()
    with open_stream(server) as events:
        next(events)
        server.signal(signal.SIGTERM)
        server.wait_for_log("finishing")
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 128 + signal.SIGTERM


def test_an_engines_death_ends_the_process(start: Start) -> None:
    """The client that waits gets an error, and the exit code says that the engine died."""
    server = start()
    server.release()
    reply = post(server, {"model": "fake", "prompt": "a!"})
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "engine_dead"
    assert server.exit_code() == EXIT_ENGINE_DEAD


def test_a_death_ends_what_others_run(start: Start) -> None:
    """When one engine dies the process ends, so streams of other engines get an error event first."""
    server = start()
    with open_stream(server) as events:
        next(events)
        post(server, {"model": "other", "prompt": "a!"})
        *_, error, done = events
    server.release()
    assert error["error"]["code"] == "shutting_down"
    assert done == "[DONE]"
    assert server.exit_code() == EXIT_ENGINE_DEAD


def test_an_idle_server_stops(start: Start) -> None:
    """A signal ends an idle server with exit code 0."""
    server = start()
    assert httpx.get(f"{server.url}/health", timeout=PATIENCE).status_code == 200
    server.signal(signal.SIGTERM)
    assert server.exit_code() == EXIT_OK
