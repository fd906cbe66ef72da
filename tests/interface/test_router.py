"""`mlc_serve router` as a process: it starts servers, replaces those that fail, and ends with them."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message

import psutil
import pytest

from mlc_serve.errors import ConfigError
from mlc_serve.interface.router import serve
from tests.interface.running_command import RunningCommand
from tests.patience import PATIENCE
from tests.supervisor.supervised import fake_command, wait_gone

QUICK = ("--port=0", "--ready-interval=0.02", "--restart-delay=0.01", "--poll-interval=0.02")


class RouterProcess(RunningCommand):
    """A running `mlc_serve router` in front of fake children, which it starts."""

    def __init__(self, mode: str, *flags: str) -> None:
        super().__init__("router", f"--command={json.dumps(fake_command(mode))}", *QUICK, *flags)

    def url(self) -> str:
        """Wait until it listens, and return its address."""
        return self.wait_for(r"Routing to replica-1, replica-2 on (\S+)\n")[1]

    def children(self) -> list[psutil.Process]:
        """Wait until both servers have started, and return all processes below this one."""
        self.wait_for(r"replica-1 serves")
        self.wait_for(r"replica-2 serves")
        family: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return family


def get(url: str) -> tuple[int, Message]:
    """The status and the headers of a reply."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as reply:
            return reply.status, reply.headers
    except urllib.error.HTTPError as error:
        return error.code, error.headers


@pytest.fixture
def start() -> Iterator[Callable[..., RouterProcess]]:
    """Starts routers, and ends them after the test."""
    started: list[RouterProcess] = []

    def start_one(mode: str = "serve", *flags: str) -> RouterProcess:
        started.append(RouterProcess(mode, *flags))
        return started[-1]

    yield start_one
    for router in started:
        router.process.kill()
        router.end()


def test_servers_are_started_and_ended(start: Callable[..., RouterProcess]) -> None:
    """Both servers answer through one address; SIGTERM ends everything with exit code 0."""
    router = start()
    url = router.url()
    family = router.children()
    names = {get(f"{url}/v1/x")[1]["X-Routed-To"] for _ in range(4)}
    assert names == {"replica-1", "replica-2"}
    router.process.send_signal(signal.SIGTERM)
    assert router.end()[0] == 0
    wait_gone(*(process.pid for process in family))


def test_a_server_that_is_killed_is_started_again(start: Callable[..., RouterProcess]) -> None:
    """Meanwhile the other one answers everything."""
    router = start()
    url = router.url()
    router.children()
    pid = int(router.wait_for(r"fake child (\d+) on")[1])
    os.kill(pid, signal.SIGKILL)
    router.wait_for(r"replica-1 is out")
    assert get(f"{url}/v1/x")[0] == 200
    router.wait_for(r"replica-1 is out(?s:.)*replica-1 serves")
    names = {get(f"{url}/v1/x")[1]["X-Routed-To"] for _ in range(4)}
    assert names == {"replica-1", "replica-2"}


def test_if_no_server_can_run_the_router_ends(start: Callable[..., RouterProcess]) -> None:
    """The exit code is 1, and the last line says why the servers don't run."""
    code, text = start("exit=2").end()
    assert code == 1
    assert "mlc_serve: error: the server ended with code 2" in text


def test_a_second_signal_ends_at_once(start: Callable[..., RouterProcess]) -> None:
    """Who insists doesn't wait for servers that are slow to end."""
    router = start("slow-end")
    router.url()
    family = router.children()
    router.process.send_signal(signal.SIGINT)
    router.wait_for("slow to end")
    router.process.send_signal(signal.SIGINT)
    assert router.end()[0] == 128 + signal.SIGINT
    wait_gone(*(process.pid for process in family))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["model", "--backend", "http://a"], "MODEL is given, but the router starts no server"),
        (["--backend", "a:80"], "backends: 'a:80': expected the address of a server"),
        (["--backend", "http://a", "--backend", "http://a:80/"], "backends: a:80 is there twice"),
        (["--backend", "http://a", "--backend-ca-file", "no"], "backend_ca_file: can't read no"),
    ],
)
def test_a_wrong_setting_is_one_line(flags: list[str], words: str) -> None:
    """It names the setting, and the exit code is 2."""
    code, text = RunningCommand("router", "--port=0", *flags).end()
    assert code == 2
    assert text.startswith("mlc_serve: error: ")
    assert text.count("\n") == 1
    assert words in text


def test_the_function_of_mlc_checks_its_endpoints() -> None:
    """Hosts, ports and numbers of GPUs belong together, and each server has one device."""
    with pytest.raises(ConfigError, match="the same length"):
        serve("m", None, "127.0.0.1", 0, ["127.0.0.1"], [1, 2], [1], enable_prefix_cache=True)
    with pytest.raises(ConfigError, match="endpoint_num_gpus"):
        serve("m", None, "127.0.0.1", 0, ["127.0.0.1"], [1], [2], enable_prefix_cache=True)
