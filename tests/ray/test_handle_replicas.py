"""Serve's handle as the front sees it."""

from __future__ import annotations

from contextlib import aclosing
from importlib import import_module
from typing import Any

import pytest

from mlc_serve.errors import QueueFullError, RequestError, ServerLostError
from tests.ray.calls import call_of
from tests.ray.fake_ray import BackPressureError, Handle, RayError, RayServeException

pytestmark = pytest.mark.usefixtures("without_ray")


def replicas_of(handle: Handle) -> Any:
    """The replicas behind a handle."""
    return import_module("mlc_serve.ray.handle_replicas").HandleReplicas(handle)


async def test_a_reply_is_streamed() -> None:
    """The method of the replica is called as one that yields."""
    handle = Handle([[b"1"], [b"2"]])
    assert [parts async for parts in replicas_of(handle).answer(call_of())] == [[b"1"], [b"2"]]
    assert handle.chosen == {"method_name": "answer", "stream": True}


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (RayError("died"), ServerLostError),
        (RayServeException("gone"), ServerLostError),
        (BackPressureError("full"), QueueFullError),
    ],
)
async def test_failures_become_our_own(failure: Exception, expected: type[RequestError]) -> None:
    """A replica that fails is lost, and a full queue is full; the client is told no details."""
    with pytest.raises(expected) as raised:
        await anext(replicas_of(Handle([failure])).answer(call_of()))
    assert str(failure) not in raised.value.message.split()


async def test_a_reader_that_leaves_cancels_the_call() -> None:
    """If the generator is closed, the replica is told."""
    handle = Handle([[b"1"], [b"2"]])
    async with aclosing(replicas_of(handle).answer(call_of())) as batches:
        await anext(batches)
    assert handle.response.is_cancelled
