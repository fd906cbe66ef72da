"""The application that Serve's commands get."""

from __future__ import annotations

from typing import Any

import pytest

import mlc_serve.ray
from mlc_serve.errors import ConfigError
from mlc_serve.ray.arguments import read_arguments
from mlc_serve.ray.options import engine_options, front_options

pytestmark = pytest.mark.usefixtures("without_ray")


def built(**arguments: Any) -> Any:
    """The application for these arguments."""
    return mlc_serve.ray.build_app(arguments)


def test_by_prefix_a_front_comes_before_the_replicas() -> None:
    """The front gets a handle of the replicas, and both get the arguments as they are."""
    arguments = {"model": "m", "replicas": "2"}
    front = built(**arguments)
    given, replicas = front.arguments
    assert given == arguments
    assert front.options == front_options(read_arguments(arguments))
    assert replicas.arguments == (arguments,)
    assert replicas.options == engine_options(read_arguments(arguments))
    assert not hasattr(replicas.cls, "__serve_build_asgi_app__")


def test_by_load_the_replicas_come_first() -> None:
    """Serve mounts our own application in each replica."""
    replicas = built(routing="load")
    assert replicas.options == engine_options(read_arguments({"routing": "load"}))
    assert hasattr(replicas.cls, "__serve_build_asgi_app__")


def test_replicas_answer_what_serve_asks() -> None:
    """These are the methods that Serve looks for."""
    _, replicas = built().arguments
    for name in ("check_health", "record_routing_stats", "answer", "__del__"):
        assert callable(getattr(replicas.cls, name))


def test_a_wrong_argument_is_found_before_anything_is_deployed() -> None:
    """The command fails, and not each replica."""
    with pytest.raises(ConfigError, match="max_num_sequence"):
        built(max_num_sequence="none")


def test_the_application_without_arguments() -> None:
    """`serve build` takes an application, and not a builder."""
    assert mlc_serve.ray.app == built()
