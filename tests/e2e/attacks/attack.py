"""What must hold during an attack: others are served, memory stays bounded, and the event loop is not held.

    def test_something(attacked: AttackedServer) -> None:
        with attack(attacked, body_bytes=len(body)):
            reply = httpx.post(f"{attacked.url}/v1/completions", content=body)
        assert reply.status_code == 400

The code in the block is the attack.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.e2e.attacks.server import AttackedServer

MEGABYTE = 1024 * 1024
# A request may use this much memory, and eight times the size of its body.
BASE_BYTES = 64 * MEGABYTE
MODEL = "attacked"
QUESTION = "How is the weather?"
ANSWER = "It is raining, and the streets are wet."


class Bystander:
    """A client that asks again and again, and must always be answered."""

    def __init__(self, server: AttackedServer) -> None:
        self._client = httpx.Client(base_url=server.url, headers=server.headers, timeout=60, verify=False)
        self._answered = threading.Condition()
        self._num_answered = 0
        self._fault: str | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def wait_for_answer(self) -> None:
        """Wait for an answer to a question that was asked after this call."""
        with self._answered:
            wanted = self._num_answered + 2  # the next answer may belong to an earlier question
            self._answered.wait_for(lambda: self._num_answered >= wanted or self._fault, timeout=120)
            assert self._fault is None, self._fault
            assert self._num_answered >= wanted, "the other client was not served"

    def end(self) -> None:
        """Stop asking."""
        self._ended = True
        self._thread.join()
        self._client.close()

    def _ask(self) -> None:
        while not self._ended and self._fault is None:
            fault = self._fault_of_one_round()
            with self._answered:
                self._fault = fault
                self._num_answered += fault is None
                self._answered.notify_all()

    def _fault_of_one_round(self) -> str | None:
        """Ask for a reply and for /health, and return what was wrong with the answers, if anything."""
        try:
            reply = self._client.post("/v1/completions", json={"model": MODEL, "prompt": QUESTION})
            health = self._client.get("/health")
        except httpx.HTTPError as error:
            return f"the other client was not answered: {error!r}"
        if reply.status_code != 200 or reply.json()["choices"][0]["text"] != ANSWER:
            return f"the other client got {reply.status_code} {reply.text}"
        return None if health.status_code == 200 else f"/health answered {health.status_code} {health.text}"


@contextmanager
def attack(server: AttackedServer, *, body_bytes: int = 0) -> Iterator[Bystander]:
    """Check, from before the block until after it, what must hold during any attack.

    Another client gets every answer, including one to a question that it asks after the block; the server
    uses no more memory than BASE_BYTES and eight times `body_bytes` (of all bodies that the block sends at
    once); and no request holds the event loop for long.
    """
    bystander = Bystander(server)
    try:
        bystander.wait_for_answer()
        server.forget_peak()
        memory, long_holds = server.memory(), server.long_holds()
        yield bystander
        bystander.wait_for_answer()
    finally:
        bystander.end()
    used = server.peak_memory() - memory
    assert used <= 8 * body_bytes + BASE_BYTES, f"{used / MEGABYTE:.0f} MB were used"
    assert server.long_holds() == long_holds, "the event loop was held for too long"


def error_of(reply: httpx.Response) -> dict[str, Any]:
    """The error object of a refusal."""
    error: dict[str, Any] = reply.json()["error"]
    return error
