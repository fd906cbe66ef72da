"""A server in a child process starts, serves, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import socket
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from mlc_serve.config import EngineConfig
from mlc_serve.demo import demo_model_path
from mlc_serve.errors import ConfigError
from mlc_serve.supervisor.popen_server import PopenServer, _Child

# Starts a grandchild, tells its id through a named pipe, and waits for ever.
FAMILY = """
import subprocess, sys, signal
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
with open(sys.argv[1], "w") as pipe:
    pipe.write(str(child.pid))
signal.pause()
"""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def test_addresses_follow_from_host_and_port() -> None:
    """Base addresses are known before the server starts."""
    server = PopenServer("dir", host="127.0.0.1", port=8082)
    assert server.base_url == "http://127.0.0.1:8082"
    assert server.openai_v1_base_url == "http://127.0.0.1:8082/v1"
    assert PopenServer("dir", host="::1", port=1).base_url == "http://[::1]:1"


def test_every_setting_is_passed_on() -> None:
    """The child's command line says all that the engine's configuration says."""
    config = EngineConfig(
        max_num_sequence=3,
        max_single_sequence_length=512,
        prefill_mode="chunked",
        prefix_cache_mode="disable",
        gpu_memory_utilization=0.5,
        quantization="q0f32",
        additional_models=["other", ("third", "lib.so")],
        verbose=False,
    )
    server = PopenServer(
        "dir", "cpu", mode="server", engine_config=config, enable_tracing=True, port=9, api_keys=["k"]
    )
    command = server._command()
    assert command[:5] == [sys.executable, "-m", "mlc_serve", "serve", "dir"]
    assert command[5:] == [
        "--device=cpu",
        "--enable-tracing",
        "--port=9",
        "--api-key=k",
        "--enable-debug",
        "--mode=server",
        "--additional-models",
        "other",
        "third,lib.so",
        "--quantization=q0f32",
        "--prefix-cache-mode=disable",
        "--prefill-mode=chunked",
        "--overrides",
        "gpu_memory_utilization=0.5;max_num_sequence=3;context_window_size=512;verbose=false",
    ]


def test_a_contradiction_is_refused() -> None:
    """A mode that differs from the configuration's is an error at once, and so is an unknown port."""
    with pytest.raises(ConfigError, match="mode"):
        PopenServer("dir", mode="local", engine_config=EngineConfig(mode="server"))
    with pytest.raises(ConfigError, match="port"):
        PopenServer("dir", port=0)


def test_a_stranger_on_the_port_is_not_taken_for_the_server() -> None:
    """A port on which someone listens already is an error, not a server."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        server = PopenServer("dir", port=stranger.getsockname()[1])
        with pytest.raises(RuntimeError, match="another server listens"):
            server.start()


def test_a_child_that_dies_is_quoted(tmp_path: Path) -> None:
    """A model that isn't there: RuntimeError with exit code and the child's own words."""
    server = PopenServer(str(tmp_path / "missing"), "cpu", port=free_port())
    with pytest.raises(RuntimeError, match=r"ended with code \d+:\nmlc_serve: error: .*missing"):
        server.start()


def test_the_deadline_is_kept() -> None:
    """A server that isn't ready in time is killed, and the error says so."""
    server = PopenServer(str(demo_model_path()), "cpu", port=free_port(), startup_timeout=0.0)
    before = {child.pid for child in psutil.Process().children()}
    with pytest.raises(RuntimeError, match="not ready within 0 s"):
        server.start()
    assert {child.pid for child in psutil.Process().children()} <= before


def test_the_whole_tree_is_killed(tmp_path: Path) -> None:
    """Killing the child kills its children too."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    child = _Child([sys.executable, "-c", FAMILY, str(pipe)], os.environ)
    grandchild = psutil.Process(int(pipe.read_text()))
    child.kill_tree()
    assert child.exit_code is not None
    psutil.wait_procs([grandchild], timeout=10)
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE


def test_a_server_serves_and_is_gone_afterwards() -> None:
    """As a context manager: ready inside, and nobody listens outside. Ending twice is harmless."""
    server = PopenServer(str(demo_model_path()), "cpu", port=free_port())
    with server:
        with urllib.request.urlopen(f"{server.openai_v1_base_url}/models") as reply:
            assert json.load(reply)["object"] == "list"
        with pytest.raises(RuntimeError, match="started already"):
            server.start()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.server_config.port))
    server.terminate()
