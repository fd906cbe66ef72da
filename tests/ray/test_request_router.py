"""Our request router within Serve's protocol."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import pytest

from mlc_serve.ray.call import Call
from tests.ray.calls import call_of, chat_body
from tests.ray.fake_ray import PendingRequest, ReplicaID, RunningReplica

pytestmark = pytest.mark.usefixtures("without_ray")

LONG = chat_body("one long prompt " * 20)


def replica(name: str, **stats: Any) -> RunningReplica:
    """A replica that has told this about itself."""
    return RunningReplica(ReplicaID(name), stats)


def router_of(*replicas: RunningReplica, loads: Mapping[str, int] | None = None) -> Any:
    """A request router of these replicas."""
    known = {ReplicaID(name): load for name, load in (loads or {}).items()}
    router = import_module("mlc_serve.ray.request_router").PrefixRequestRouter(known)
    router.initialize_state()
    router.update_replicas(list(replicas))
    return router


async def order(router: Any, *replicas: RunningReplica, call: Call | None = None) -> list[str]:
    """The order in which Serve would try the replicas."""
    request = None if call is None else PendingRequest([call])
    ranks = await router.choose_replicas(list(replicas), request)
    return [entry.replica_id.unique_id for (entry,) in ranks]


async def test_the_replica_with_the_prefix_is_first() -> None:
    """What a replica has told decides, and later what was sent to it."""
    call = call_of(LONG)
    a, b = replica("a"), replica("b", load=0, pages=list(call.prompt.pages))
    router = router_of(a, b)
    assert await order(router, a, b, call=call) == ["b", "a"]
    other = call_of(chat_body("another long prompt " * 20))
    router.on_request_routed(PendingRequest([other]), ReplicaID("a"), None)
    assert await order(router, a, b, call=other) == ["a", "b"]


async def test_serves_own_count_is_the_load() -> None:
    """What Serve knows of a replica's queue takes precedence over what the replica told last."""
    a, b = replica("a", load=0), replica("b", load=5)
    assert await order(router_of(a, b), a, b, call=call_of(LONG)) == ["a", "b"]
    assert await order(router_of(a, b, loads={"a": 3, "b": 1}), a, b, call=call_of(LONG)) == ["b", "a"]


async def test_a_request_that_was_lost_goes_to_another_replica() -> None:
    """A replica whose engine is dead is idle and has the prefix, but is not chosen again."""
    call = call_of(LONG)
    a, b = replica("a", pages=list(call.prompt.pages)), replica("b")
    router = router_of(a, b)
    tried = [(await order(router, a, b, call=call._replace(num_lost=n)))[0] for n in range(3)]
    assert tried == ["a", "b", "a"]
    assert await order(router, a, call=call._replace(num_lost=1)) == ["a"]


async def test_only_the_holder_can_answer() -> None:
    """A request about a stored response goes to its replica alone, however busy; if that is gone, to any."""
    a, b = replica("a"), replica("b")
    router = router_of(a, b, loads={"a": 9, "b": 0})
    call = call_of(LONG)._replace(holder="a")
    assert await order(router, a, b, call=call) == ["a"]
    assert await order(router, b, call=call) == ["b"]


async def test_other_requests_are_placed_by_load() -> None:
    """Serve asks also without a request, and other callers of the deployment send no Calls."""
    a, b = replica("a"), replica("b")
    router = router_of(a, b, loads={"a": 2, "b": 1})
    assert await order(router, a, b) == ["b", "a"]
    ranks = await router.choose_replicas([a, b], PendingRequest(["text"]))
    assert ranks == [[b], [a]]
    router.on_request_routed(PendingRequest([]), ReplicaID("a"), None)


def test_serve_learns_of_the_replicas_too() -> None:
    """The base class gets each update."""
    a = replica("a")
    assert router_of(a).updates == [[a]]
