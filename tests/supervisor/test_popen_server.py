"""A server in a child process starts, serves, and leaves nothing behind."""

from __future__ import annotations

import json
import socket
import sys
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from mlc_serve.cli import serve
from mlc_serve.cli.parser import CommandParser, read_options
from mlc_serve.config import EngineConfig, LaunchConfig, ServerConfig
from mlc_serve.demo import demo_model_path
from mlc_serve.errors import ConfigError
from mlc_serve.supervisor import PopenServer
from tests.supervisor.supervised import free_port


def test_addresses_follow_from_host_and_port() -> None:
    """The base URLs follow from host and port before the server starts."""
    server = PopenServer("dir", host="127.0.0.1", port=8082)
    assert server.base_url == "http://127.0.0.1:8082"
    assert server.openai_v1_base_url == "http://127.0.0.1:8082/v1"
    assert PopenServer("dir", host="::1", port=1).base_url == "http://[::1]:1"


def test_every_setting_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child gets all settings, with keys in the environment only, and is not started a second time."""
    told, keys, program = tmp_path / "told", tmp_path / "keys", tmp_path / "python"
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\0" "$@" >> {told}\nprintf %s "$MLC_SERVE_API_KEY" >> {keys}\nexit 1\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    engine = EngineConfig(
        max_num_sequence=3, prefill_mode="chunked", additional_models=("other", ("third", "lib.so"))
    )
    port = free_port()
    server = PopenServer(
        "dir", "cpu", mode="server", engine_config=engine, enable_tracing=True, port=port, api_keys=["k"]
    )
    with pytest.raises(RuntimeError):
        server.start()
    assert keys.read_text() == "k\n"
    _, _, _, *argv = told.read_text().rstrip("\0").split("\0")
    arguments = serve.add_parser(CommandParser().add_subparsers()).parse_args(argv)
    told_engine = read_options(EngineConfig, arguments, model=arguments.model).overridden(arguments.overrides)
    # The supervisor limits the context window if nothing else does.
    assert replace(told_engine, context_window_limit=None) == engine.agreed(
        model="dir", model_lib=None, mode="server"
    )
    assert read_options(ServerConfig, arguments) == ServerConfig(port=port, enable_debug=True)
    assert read_options(LaunchConfig, arguments) == LaunchConfig(device="cpu", enable_tracing=True)


def test_a_contradiction_is_refused() -> None:
    """A mode that differs from the configuration's is an error at once, and so is port 0."""
    with pytest.raises(ConfigError, match="mode"):
        PopenServer("dir", mode="local", engine_config=EngineConfig(mode="server"))
    with pytest.raises(ConfigError, match="port"):
        PopenServer("dir", port=0)


def test_a_stranger_on_the_port_is_not_taken_for_the_server() -> None:
    """If another process already listens on the port, the start is an error."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        server = PopenServer("dir", port=stranger.getsockname()[1])
        with pytest.raises(RuntimeError, match="in use"):
            server.start()


def test_a_child_that_dies_is_quoted(tmp_path: Path) -> None:
    """If the model does not exist, start raises RuntimeError with the child's exit code and its output."""
    server = PopenServer(str(tmp_path / "missing"), "cpu", port=free_port())
    with pytest.raises(RuntimeError, match=r"ended with code 65:\nmlc_serve: error: .*missing"):
        server.start()


def test_the_deadline_is_kept() -> None:
    """A server that isn't ready in time is killed, and the error says so."""
    server = PopenServer(str(demo_model_path()), "cpu", port=free_port(), startup_timeout=0.0)
    before = {child.pid for child in psutil.Process().children()}
    with pytest.raises(RuntimeError, match="not ready within 0 s"):
        server.start()
    assert {child.pid for child in psutil.Process().children()} <= before


def test_a_server_serves_and_is_gone_afterwards() -> None:
    """A server serves within its context, and is gone afterwards; terminating it again is harmless."""
    server = PopenServer(str(demo_model_path()), "cpu", port=free_port())
    before = {child.pid for child in psutil.Process().children()}
    with server:
        with urllib.request.urlopen(f"{server.openai_v1_base_url}/models") as reply:
            assert json.load(reply)["object"] == "list"
        with pytest.raises(RuntimeError, match="started already"):
            server.start()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.server_config.port))
    server.terminate()
    assert {child.pid for child in psutil.Process().children()} <= before
    assert [thread for thread in threading.enumerate() if thread.name == "PopenServer"] == []
