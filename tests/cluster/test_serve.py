"""The demo model on a real Ray Serve."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import openai
import pytest
import ray
from ray import serve

from tests.cluster.asking import CHAT, LONG, begun, num_tokens, routed_to, text_of
from tests.cluster.conftest import NAME, Deploy
from tests.patience import PATIENCE

REPLICA = f"SERVE_REPLICA::{NAME}#Engine#"


def until(happened: Callable[[], bool]) -> None:
    """Ask again and again until something has happened, of which Serve gives no notice."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.1)


def replicas() -> set[str]:
    """The names of the replicas that hold the model."""
    actors = [entry["name"] for entry in ray.util.list_named_actors(all_namespaces=True)]
    return {name.removeprefix(REPLICA) for name in actors if name.startswith(REPLICA)}


def num_running() -> int:
    """How many of them serve."""
    states = serve.status().applications[NAME].deployments["Engine"].replica_states
    return sum(count for state, count in states.items() if state == "RUNNING")


def of_user(text: str) -> dict[str, str]:
    """A message of a user."""
    return {"role": "user", "content": text}


def test_two_replicas_answer_the_sdk(deploy: Deploy) -> None:
    """Whole replies, streams and errors are as from one server; a conversation stays at its replica, and so
    does a stored response; other prompts are spread.
    """
    client = deploy(replicas=2)
    assert [model.id for model in client.models.list().data] == ["demo"]
    assert begun(client, CHAT).text() == text_of(client, CHAT) != ""
    with pytest.raises(openai.NotFoundError, match="another"):
        client.chat.completions.create(**{**CHAT, "model": "another"})
    turns = [of_user("Tell me about the sea. " * 12)]
    first = routed_to(client, {**CHAT, "messages": turns})
    turns += [{"role": "assistant", "content": "It is wide."}, of_user("Go on.")]
    assert routed_to(client, {**CHAT, "messages": turns}) == first
    others = {routed_to(client, {**CHAT, "messages": [of_user(f"{n} " * 60)]}) for n in range(4)}
    assert others == replicas()
    asked: Any = {"model": "demo", "input": "Hello", "max_output_tokens": 8}
    for _ in range(2):
        stored = client.responses.create(**asked)
        again = client.responses.create(**asked, previous_response_id=stored.id)
        assert again.previous_response_id == stored.id


def test_no_request_is_lost_in_silence_when_a_replica_is_killed(deploy: Deploy) -> None:
    """When a replica is killed under load, all whole replies are complete, its streams end with an error if
    they were not complete, those of the other replica are complete, and another replica takes its place.
    """
    client = deploy(replicas=2)
    with ThreadPoolExecutor(8) as threads:
        wholes = [threads.submit(num_tokens, client, LONG) for _ in range(4)]
        starts = [threads.submit(begun, client, LONG) for _ in range(4)]
        *others, newest = [start.result() for start in as_completed(starts, PATIENCE)]
        ray.kill(ray.get_actor(f"{REPLICA}{newest.replica}", namespace="serve"))
        with pytest.raises(openai.APIError, match="has failed"):
            newest.text()
        for stream in others:
            try:
                assert stream.text()
            except openai.APIError:
                assert stream.replica == newest.replica
        assert [whole.result(PATIENCE) for whole in wholes] == [LONG["max_tokens"]] * 4
    until(lambda: newest.replica not in replicas() and num_running() == 2)


def test_the_deployment_grows_under_load(deploy: Deploy) -> None:
    """With auto, a second replica starts when the first one has more requests than it should."""
    fast = {"upscale_delay_s": 0.5, "metrics_interval_s": 0.2, "look_back_period_s": 1.0}
    scaling = {"min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 1, **fast}
    client = deploy(replicas="auto", deployment={"autoscaling_config": scaling})
    assert num_running() == 1
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            text_of(client, LONG)

    with ThreadPoolExecutor(4) as threads:
        loads = [threads.submit(load) for _ in range(4)]
        try:
            until(lambda: num_running() == 2)
        finally:
            stop.set()
        for each in loads:
            each.result(PATIENCE)


def test_routing_by_load_needs_no_front(deploy: Deploy) -> None:
    """With routing by load, Serve's proxies send requests to the replicas themselves."""
    client = deploy(replicas=2, routing="load")
    assert begun(client, CHAT).text() == text_of(client, CHAT) != ""
    assert list(serve.status().applications[NAME].deployments) == ["Engine"]
