"""The arguments of build_app become settings, whether a command line or a configuration has given them."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.config import DeploymentConfig, EngineConfig, LaunchConfig, ServerConfig
from mlc_serve.errors import ConfigError
from mlc_serve.ray.arguments import Settings, arguments_of, read_arguments


def test_texts_and_values_mean_the_same() -> None:
    """What `serve run` passes as texts is read as what a configuration has as values."""
    texts = {
        "max_num_sequence": "8",
        "enable_debug": "true",
        "served_model_name": '["a","b"]',
        "replicas": "2",
    }
    values = {"max_num_sequence": 8, "enable_debug": True, "served_model_name": ["a", "b"], "replicas": 2}
    assert read_arguments(texts) == read_arguments(values)
    settings = read_arguments(values)
    assert settings.engine.max_num_sequence == 8
    assert settings.server.served_model_name == ("a", "b")
    assert settings.deployment.num_replicas == 2


def test_overrides_take_precedence() -> None:
    """`overrides` has MLC's keys, as on the command line of `serve`."""
    settings = read_arguments({"model": "m", "mode": "server", "overrides": "max_num_sequence=3;opt=O2"})
    assert settings.engine == EngineConfig(model="m", mode="server", max_num_sequence=3, opt="O2")


def test_every_host_header_is_accepted() -> None:
    """A replica does not know the names under which clients reach Serve's proxies."""
    assert not read_arguments({}).server.host.startswith("127.")


def test_settings_survive_the_way_through_a_configuration() -> None:
    """What arguments_of writes, read_arguments reads back, also lists and pairs."""
    settings = Settings(
        EngineConfig(model="m", additional_models=("x", ("y", "y.so")), speculative_mode="ngram"),
        ServerConfig(host="0.0.0.0", served_model_name=("m", "alias"), shutdown_timeout=7, root_path="/llm"),
        LaunchConfig(device="cpu"),
        DeploymentConfig(replicas="auto", max_replicas=3, cpus_per_replica=0.5),
        {"health_check_period_s": 5},
        {"num_replicas": 2},
    )
    assert read_arguments(arguments_of(settings)) == settings


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"port": 8000}, "port"),
        ({"ssl_certfile": "c.pem"}, "ssl_certfile"),
        ({"quantisation": "q0f32"}, "did you mean quantization"),
        ({"max_num_sequence": "many"}, "max_num_sequence"),
        ({"replicas": "some"}, "replicas"),
        ({"replicas": 0}, "replicas"),
        ({"min_replicas": 9}, "min_replicas"),
        ({"deployment": 3}, "deployment"),
        ({"overrides": "nothing=1"}, "nothing"),
    ],
)
def test_what_is_wrong_is_named(arguments: dict[str, Any], named: str) -> None:
    """An argument that can't be followed is refused by its name."""
    with pytest.raises(ConfigError, match=named):
        read_arguments(arguments)


def test_what_only_proxies_do_is_not_dropped_in_silence() -> None:
    """A certificate, which replicas could not use, is refused, and not left out of the configuration."""
    server = ServerConfig(ssl_certfile="c.pem")
    with pytest.raises(ConfigError, match="ssl_certfile"):
        arguments_of(Settings(EngineConfig(), server, LaunchConfig(), DeploymentConfig()))
