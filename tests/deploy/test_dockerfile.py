"""The image is built from what it needs, and runs the server as docs/deploy.md says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from mlc_serve.cli import serve
from mlc_serve.cli.parser import CommandParser, read_options
from mlc_serve.config import ServerConfig
from mlc_serve.host.server_socket import bind_socket
from mlc_serve.server.middleware.auth import OPEN_PATHS
from tests.patience import PATIENCE

ROOT = Path(__file__).parent.parent.parent


class Instruction(NamedTuple):
    """One instruction of a Dockerfile: its keyword and all that follows, on one line."""

    keyword: str
    text: str


def stages() -> list[list[Instruction]]:
    """The instructions of each stage, of which the last one is the image."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    found = [Instruction(*line.split(maxsplit=1)) for line in text.replace("\\\n", "").splitlines() if line]
    starts = [index for index, (keyword, _) in enumerate(found) if keyword == "FROM"]
    return [found[start:stop] for start, stop in zip(starts, [*starts[1:], None], strict=True)]


def of(stage: Sequence[Instruction], keyword: str) -> list[str]:
    """What follows a keyword, each time that it occurs in a stage."""
    return [text for found, text in stage if found == keyword]


def test_every_stage_begins_with_the_same_python() -> None:
    """The environment that the first stage makes refers to its interpreter, which the last one must have."""
    images = {text.split()[0] for stage in stages() for text in of(stage, "FROM")}
    assert images == {"python:3.11-slim"}


def test_what_is_copied_is_there_and_not_ignored() -> None:
    """Each file that the image is built from exists, .dockerignore lets it through, and nothing else."""
    copied = [name for text in of(stages()[0], "COPY") for name in text.split()[:-1]]
    rules = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line]
    assert "*" in rules
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(copied)
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_image_does_not_run_as_root() -> None:
    """The user is a number, by which Kubernetes can tell that it is not root."""
    (user,) = of(stages()[-1], "USER")
    assert re.fullmatch(r"[1-9]\d*:\d+", user)


def test_without_arguments_the_demo_model_is_served_to_everybody() -> None:
    """The command has no model, and an address that can be reached from outside of the container."""
    image = stages()[-1]
    (entry,), (command,) = of(image, "ENTRYPOINT"), of(image, "CMD")
    assert json.loads(entry) == ["mlc_serve"]
    name, *flags = json.loads(command)
    assert name == "serve"
    arguments = serve.add_parser(CommandParser(prog="mlc_serve").add_subparsers()).parse_args(flags)
    assert arguments.model is None
    assert read_options(ServerConfig, arguments) == ServerConfig(host="0.0.0.0")


@pytest.mark.parametrize("keyword", ["HEALTHCHECK", "EXPOSE"])
def test_the_port_is_that_of_the_server(keyword: str) -> None:
    """Docker probes and publishes the port that the server listens on by default."""
    (text,) = of(stages()[-1], keyword)
    assert str(ServerConfig.port) in re.findall(r"\d+", text)


class Probed(HTTPServer):
    """Answers one request for /health with a status, on any free port."""

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.status = status


class Answer(BaseHTTPRequestHandler):
    """The answer to one request."""

    server: Probed

    def do_GET(self) -> None:
        """Answer /health; there is nothing else."""
        self.send_response(self.server.status if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def exit_code_of_check(port: int) -> int:
    """What the health check ends with for a server on a port, though the environment names a proxy."""
    (check,) = of(stages()[-1], "HEALTHCHECK")
    interpreter, flag, program = json.loads(check.partition("CMD ")[2])
    assert (interpreter, flag) == ("python", "-c")
    command = [sys.executable, flag, program.replace(str(ServerConfig.port), str(port))]
    env = {**os.environ, "http_proxy": "http://127.0.0.1:9"}
    return subprocess.run(command, env=env, capture_output=True, check=False, timeout=PATIENCE).returncode


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_docker_asks_for_the_health(status: int, code: int) -> None:
    """The check succeeds if and only if /health, which needs no key, is answered with 200."""
    assert "/health" in OPEN_PATHS
    with Probed(status) as server:
        answer = threading.Thread(target=server.handle_request)
        answer.start()
        assert exit_code_of_check(server.server_port) == code
        answer.join()


def test_a_server_that_has_not_started_is_not_healthy() -> None:
    """The check fails if nobody listens on the port."""
    with bind_socket("127.0.0.1", 0) as sock:
        assert exit_code_of_check(sock.getsockname()[1]) == 1
