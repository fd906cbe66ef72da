"""Servers that move prefixes, one of which is killed or stopped while it does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from mlc_serve.kv_transfer.address import Address
from tests.e2e.microserver_process import Microserver
from tests.e2e.relay import Relay, relay
from tests.patience import PATIENCE

# How long a server waits for another one.
SECONDS = 1.0
SENDER, RECEIVER = 0, 1


class Pair:
    """A server that computes prompts and one that generates, and the relay between them."""

    def __init__(self, stack: ExitStack, between: Relay) -> None:
        self._stack = stack
        self._relay = between
        self._num_users = 0
        self.servers = [Microserver(stack, SECONDS) for _ in (SENDER, RECEIVER)]

    def started_anew(self, place: int) -> Microserver:
        """The server that has taken the place of one that was killed."""
        self.servers[place] = Microserver(self._stack, SECONDS)
        return self.servers[place]

    def prepared(self, most: int | None = None) -> tuple[str, dict[str, Any]]:
        """Prepare a request; return its user, and what the sender needs. Its prefix goes through the relay,
        which holds it after `most` bytes.
        """
        self._num_users += 1
        user = f"user {self._num_users}"
        salt = {"cache_salt": user}
        reply = self.servers[RECEIVER].call("prep_recv", user, end=-1, **salt).json()
        address = Address.decoded(reply["kv_append_metadata"])
        self._relay.lead_to(address.port, most)
        relayed = replace(address, port=self._relay.port, transports=["tcp"]).encoded()
        return user, {"begin": 0, "end": -1, "kv_addr_info": relayed, **salt}

    def num_bytes(self) -> int:
        """Move a prefix, check the answer, and return how many bytes the sender has sent."""
        user, window = self.prepared()
        sent = self.servers[SENDER].call("remote_send", user, **window)
        assert sent.status_code == 200, sent.text
        started = self.start(user)
        assert started.json()["choices"][0]["text"] == self.servers[RECEIVER].text()
        return self._relay.num_passed

    def start(self, user: str) -> httpx.Response:
        """The answer to start_generate once the request has received its prefix or has ended."""
        while True:
            reply = self.servers[RECEIVER].call("start_generate", user, begin=-1, cache_salt=user)
            if reply.status_code != 409:
                return reply

    def until_held(self) -> None:
        """Wait until the relay holds the prefix."""
        assert self._relay.is_holding.wait(PATIENCE)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Two servers."""
    with ExitStack() as stack:
        yield Pair(stack, stack.enter_context(relay()))


@contextmanager
def held(pair: Pair, share: float) -> Iterator[tuple[str, Future[httpx.Response]]]:
    """A transfer that is held after a share of its bytes: its user, and the reply to remote_send."""
    most = int(share * pair.num_bytes())
    user, window = pair.prepared(most)
    with ThreadPoolExecutor(1) as threads:
        sending = threads.submit(pair.servers[SENDER].call, "remote_send", user, **window)
        pair.until_held()
        yield user, sending


def assert_idle(server: Microserver) -> None:
    """It answers, and afterwards it is idle."""
    assert server.text()
    assert server.is_idle


each_share = pytest.mark.parametrize("share", [0, 0.5, 0.99])


@each_share
def test_a_sender_is_killed(pair: Pair, share: float) -> None:
    """The receiver says that the request has ended, and holds nothing; another sender can take over."""
    with held(pair, share) as (user, sending):
        pair.servers[SENDER].process.kill()
        assert isinstance(sending.exception(PATIENCE), httpx.TransportError)
        assert pair.start(user).status_code == 410
    assert_idle(pair.servers[RECEIVER])
    pair.started_anew(SENDER)
    pair.num_bytes()


@each_share
def test_a_receiver_is_killed(pair: Pair, share: float) -> None:
    """The sender says that it is lost, and holds nothing; after a restart, the request is unknown there."""
    with held(pair, share) as (user, sending):
        pair.servers[RECEIVER].process.kill()
        reply = sending.result(PATIENCE)
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "kv_transfer_failed")
        assert "Retry-After" in reply.headers
    assert_idle(pair.servers[SENDER])
    pair.started_anew(RECEIVER)
    assert pair.start(user).status_code == 404
    pair.num_bytes()


@each_share
@pytest.mark.parametrize("place", [SENDER, RECEIVER], ids=["sender", "receiver"])
def test_a_server_is_stopped(pair: Pair, place: int, share: float) -> None:
    """The other one gives it up within the time-out, and when it goes on, so does it. Neither holds
    anything.
    """
    stopped = pair.servers[place].process
    with held(pair, share) as (user, sending):
        stopped.send_signal(signal.SIGSTOP)
        try:
            if place == SENDER:
                assert pair.start(user).status_code == 410
            else:
                assert sending.result(PATIENCE).status_code == 503
        finally:
            stopped.send_signal(signal.SIGCONT)
        assert sending.result(PATIENCE).status_code in (410, 503)
        assert pair.start(user).status_code == 410
    for server in pair.servers:
        assert_idle(server)
    pair.num_bytes()
