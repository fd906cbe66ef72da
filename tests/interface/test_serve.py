"""serve() has MLC's signature, and a launch goes check, bind, load, run."""

from __future__ import annotations

import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from mlc_serve.config import EngineConfig, LaunchConfig, ServerConfig
from mlc_serve.errors import CheckpointError, ConfigError, PortInUseError
from mlc_serve.host.server_socket import bind_socket, environment_of, url_of
from mlc_serve.interface.serve import run_server, serve
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.server.context import ServerContext
from mlc_serve.testing import fake_model
from tests.patience import PATIENCE

ROOT = Path(__file__).parent.parent.parent

MLC_PARAMETERS = (
    "model device model_lib mode enable_debug additional_models tensor_parallel_shards "
    "pipeline_parallel_stages opt max_num_sequence max_total_sequence_length max_single_sequence_length "
    "prefill_chunk_size sliding_window_size attention_sink_size max_history_size gpu_memory_utilization "
    "speculative_mode spec_draft_length spec_tree_width prefix_cache_mode "
    "prefix_cache_max_num_recycling_seqs prefill_mode enable_tracing host port allow_credentials "
    "allow_origins allow_methods allow_headers "
)
EXAMPLE: dict[str, Any] = {
    "model": "dist/models/Llama-2-7b-chat-hf-q4f16_1",
    "device": "cuda",
    "model_lib": None,
    "mode": "local",
    "enable_debug": False,
    "additional_models": [],
    "tensor_parallel_shards": None,
    "pipeline_parallel_stages": None,
    "opt": None,
    "max_num_sequence": None,
    "max_total_sequence_length": None,
    "max_single_sequence_length": None,
    "prefill_chunk_size": None,
    "sliding_window_size": None,
    "attention_sink_size": None,
    "max_history_size": None,
    "gpu_memory_utilization": None,
    "speculative_mode": "disable",
    "spec_draft_length": None,
    "spec_tree_width": None,
    "prefix_cache_mode": "radix",
    "prefix_cache_max_num_recycling_seqs": None,
    "prefill_mode": "hybrid",
    "enable_tracing": False,
    "host": "127.0.0.1",
    "port": 8000,
    "allow_credentials": False,
    "allow_origins": ["*"],
    "allow_methods": ["*"],
    "allow_headers": ["*"],
}
# Serves two models that need no device, on any free port.
PROGRAM = """
from mlc_serve.config import EngineConfig, LaunchConfig, ServerConfig
from mlc_serve.host.server_socket import bind_socket, environment_of, url_of
from mlc_serve.interface.serve import run_server
from mlc_serve.testing import fake_model

def load(config, device, report):
    report(f"loading {config.model} {device} {config.model_lib} {config.mode} {config.additional_models}")
    return fake_model()

engine = EngineConfig(
    model="first", model_lib="a.so", mode="server", additional_models=["second", ("third", "c.so")]
)
raise SystemExit(run_server(engine, ServerConfig(port=0), LaunchConfig(device="cpu"), load))
"""


def refuse_to_load(*_: object, **__: object) -> LoadedModel:
    """A loader that must not be reached."""
    raise AssertionError("nothing is to be loaded")


def test_the_signature_is_that_of_mlc() -> None:
    """The parameters come in MLC's order, without defaults; ours follow by keyword, with defaults."""
    parameters = inspect.signature(serve).parameters
    names = list(parameters)
    expected = MLC_PARAMETERS.split()
    assert names[: len(expected)] == expected
    assert all(parameters[name].default is inspect.Parameter.empty for name in expected)
    ours = names[len(expected) :]
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in ours)
    assert all(parameters[name].default is not inspect.Parameter.empty for name in ours)


def test_every_setting_is_a_parameter_and_every_parameter_a_setting() -> None:
    """serve() drops no argument, and can set everything except what isn't built."""
    settings = {entry.name for kind in (EngineConfig, ServerConfig, LaunchConfig) for entry in fields(kind)}
    assert set(inspect.signature(serve).parameters) == settings - {"kv_state_kind"}


def test_the_documented_call_reaches_the_socket() -> None:
    """MLC's example call is taken as written, up to the point where its port is found in use."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortInUseError):
        serve(**(EXAMPLE | {"port": taken.getsockname()[1]}))


def test_an_unknown_keyword_is_a_type_error() -> None:
    """A misspelt setting is not silently ignored."""
    with pytest.raises(TypeError, match="max_queued"):
        serve(**EXAMPLE, max_queued=3)  # type: ignore[call-arg]


def test_what_is_not_built_is_refused_before_anything_starts() -> None:
    """A call that asks for tensor parallelism ends at once."""
    with pytest.raises(ConfigError, match="tensor_parallel_shards"):
        serve(**(EXAMPLE | {"tensor_parallel_shards": 4}))


def test_a_port_in_use_is_told_before_a_model_is_loaded() -> None:
    """The error comes without waiting for a model to load."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortInUseError):
        run_server(EngineConfig(), ServerConfig(port=taken.getsockname()[1]), LaunchConfig(), refuse_to_load)


def test_a_bad_supervisor_is_told_before_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that the page could not call keeps the server from starting."""
    monkeypatch.setenv("MLC_SERVE_SUPERVISOR", "nowhere")
    with pytest.raises(ConfigError, match="MLC_SERVE_SUPERVISOR is 'nowhere'"):
        run_server(EngineConfig(), ServerConfig(port=0), LaunchConfig(), refuse_to_load)


def test_two_models_of_one_name_are_refused_before_loading() -> None:
    """Requests could not choose between them."""
    config = EngineConfig(model="same", additional_models=["same"])
    with pytest.raises(ConfigError, match="'same'"):
        run_server(config, ServerConfig(port=0), LaunchConfig(), refuse_to_load)


@pytest.mark.parametrize("names", [("a", "a"), ("a", "second")])
def test_a_served_name_that_is_given_twice_is_refused_before_loading(names: tuple[str, ...]) -> None:
    """Neither another alias nor another model may have the name."""
    config = EngineConfig(model="first", additional_models=["second"])
    with pytest.raises(ConfigError, match=repr(names[1])):
        run_server(config, ServerConfig(port=0, served_model_name=names), LaunchConfig(), refuse_to_load)


def test_the_first_served_name_is_the_models_and_the_others_are_aliases(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They name the main model; further models keep their own names."""
    served: list[tuple[str, str]] = []

    def note(context: ServerContext, _config: ServerConfig, sock: socket.socket, *_rest: Any) -> int:
        served.extend((name, context.get(name).name) for name in context.names)
        context.close()
        sock.close()
        return 0

    monkeypatch.setattr("mlc_serve.interface.serve.run", note)
    config = EngineConfig(model="first", additional_models=["second"])
    server = ServerConfig(port=0, served_model_name=("a", "b"))
    assert run_server(config, server, LaunchConfig(), lambda *_: fake_model()) == 0
    assert served == [("a", "a"), ("b", "a"), ("second", "second")]


def test_a_model_that_can_not_be_loaded_frees_the_port() -> None:
    """The error is passed on, and the socket doesn't stay bound."""

    def fail(*_: object, **__: object) -> LoadedModel:
        raise CheckpointError("no such model")

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(CheckpointError, match="no such model"):
        run_server(EngineConfig(), ServerConfig(port=port), LaunchConfig(), fail)
    socket.create_server(("127.0.0.1", port)).close()


def test_an_embedding_model_needs_a_name_of_its_own() -> None:
    """Requests could not choose between it and a chat model of that name."""
    with pytest.raises(ConfigError, match="embedding_model: another model"):
        run_server(
            EngineConfig(model="same"),
            ServerConfig(port=0),
            LaunchConfig(embedding_model="same"),
            refuse_to_load,
        )


@pytest.mark.slow
def test_a_launch_serves_an_embedding_model_beside_the_others() -> None:
    """It is loaded after them, with its own library and none of their settings."""
    program = PROGRAM.replace("fake_model", "fake_embedding_model, fake_model", 1).replace(
        'LaunchConfig(device="cpu"), load',
        'LaunchConfig(device="cpu", embedding_model="e", embedding_model_lib="e.so"), load, embedding',
    )
    loader = """
def embedding(config, device, report):
    report(f"embedding {config.model} {device} {config.model_lib} {config.mode}")
    return fake_embedding_model()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program.replace("engine =", f"{loader}\nengine =")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(5)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert lines[3] == "embedding e cpu e.so None\n"
    assert lines[4].startswith("Serving first, second, third, e on ")


@pytest.mark.slow
def test_a_launch_takes_the_socket_that_its_supervisor_has_bound() -> None:
    """It serves there, whatever port its settings name; nobody else could have taken that port before."""
    with bind_socket("127.0.0.1", 0) as sock:
        url = url_of(sock)
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={**os.environ, **environment_of(sock)},
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[sock.fileno()],
        )
    with process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        with urllib.request.urlopen(f"{url}/v1/models") as reply:
            assert len(json.load(reply)["data"]) == 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert lines[3].endswith(f" on {url}\n")


@pytest.mark.slow
def test_probes_can_not_connect_until_all_models_are_loaded() -> None:
    """Probes are refused while models are loaded; as soon as the address is printed, they answer 200."""
    with bind_socket("127.0.0.1", 0) as sock:
        url = url_of(sock)
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.replace("return fake_model()", "input(); return fake_model()")],
            cwd=ROOT,
            env={**os.environ, **environment_of(sock)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[sock.fileno()],
        )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline().startswith("loading ")
            for path in ("/health", "/ready"):
                with pytest.raises(urllib.error.URLError, match="refused"):
                    urllib.request.urlopen(url + path)
            process.stdin.write("\n")
            process.stdin.flush()
        assert process.stdout.readline().startswith("Serving ")
        for path in ("/health", "/ready"):
            with urllib.request.urlopen(url + path) as reply:
                assert reply.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


@pytest.mark.slow
def test_a_launch_serves_all_models_until_sigterm() -> None:
    """Each model is loaded with its own library and served under its own name; SIGTERM ends with code 0."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        with urllib.request.urlopen(lines[3].split(" on ")[1].split()[0] + "/v1/models") as reply:
            models = json.load(reply)["data"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert lines[0] == "loading first cpu a.so server ()\n"
    assert lines[1] == "loading second cpu None server ()\n"
    assert lines[2] == "loading third cpu c.so server ()\n"
    assert [model["id"] for model in models] == ["first", "second", "third"]
