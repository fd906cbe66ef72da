"""`mlc_serve supervise` as a process: in a terminal, as a service, and under every signal."""

from __future__ import annotations

import json
import signal
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from tests.interface.running_command import RunningCommand
from tests.supervisor.supervised import fake_command, free_port, wait_gone

QUICK = ("--ready-interval=0.02", "--restart-delay=0.01")


class Supervisor(RunningCommand):
    """A running `mlc_serve supervise` of a fake child."""

    def __init__(self, mode: str, *flags: str, terminal: bool = False) -> None:
        words = ("supervise", f"--port={free_port()}", f"--command={json.dumps(fake_command(mode))}")
        super().__init__(*words, *QUICK, *flags, terminal=terminal)

    def serving(self) -> int:
        """Wait until the server serves, and return the id of its process."""
        return int(self.wait_for(r"serving \| \S+ \| pid (\d+)")[1])


Start = Callable[..., Supervisor]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts supervisors, and ends them after the test."""
    started: list[Supervisor] = []

    def start_one(mode: str = "serve", *flags: str, **settings: Any) -> Supervisor:
        started.append(Supervisor(mode, *flags, **settings))
        return started[-1]

    yield start_one
    for supervisor in started:
        supervisor.process.kill()
        supervisor.end()


def test_ctrl_c_in_a_terminal_leaves_nothing(start: Start) -> None:
    """A live line tells the state; Ctrl-C stops the server, and the exit code is 0."""
    supervisor = start(terminal=True)
    pid = supervisor.serving()
    supervisor.wait_for(r"\r\x1b\[2Kserving \| http://127\.0\.0\.1:\d+ \| pid \d+ \| for 0:00:0")
    family = psutil.Process(supervisor.process.pid).children(recursive=True)
    assert pid in {process.pid for process in family}
    supervisor.process.send_signal(signal.SIGINT)
    code, text = supervisor.end()
    assert (code, text.rstrip().rsplit("\x1b[2K", 1)[-1]) == (0, "stopped | for 0:00:00")
    wait_gone(*(process.pid for process in family))


def test_a_second_ctrl_c_kills(start: Start) -> None:
    """Who insists doesn't wait for a server that is slow to end."""
    supervisor = start("slow-end")
    pid = supervisor.serving()
    supervisor.process.send_signal(signal.SIGINT)
    supervisor.wait_for("slow to end")
    supervisor.process.send_signal(signal.SIGINT)
    assert supervisor.end()[0] == 128 + signal.SIGINT
    wait_gone(pid)


def test_the_servers_end_follows_sigkill(start: Start) -> None:
    """A supervisor that is killed takes the server along."""
    supervisor = start("ignores-sigint")
    pid = supervisor.serving()
    supervisor.process.kill()
    supervisor.end()
    wait_gone(pid)


def test_in_a_terminal_giving_up_is_the_end(start: Start) -> None:
    """Nobody could start it again: the reason, with the last words, and exit code 1."""
    code, text = start("exit=3", "--restart-limit=1").end()
    assert code == 1
    assert "mlc_serve: error: gave up after 1 restarts within 300 s; the last time the server ended" in text
    assert "\nfake child" in text


def test_what_can_not_be_started_is_one_line(start: Start) -> None:
    """A wrong setting ends the supervisor as it would the server."""
    supervisor = start("serve", "--command=mlc_llm")
    code, text = supervisor.end()
    assert code == 2
    assert "mlc_serve: error: model is None" in text


def test_a_service_tells_and_takes_commands(start: Start) -> None:
    """Status, events and commands on the port that is printed, whose address the server is told, too."""
    supervisor = start("serve", "--status-port=0", "--status-token=secret")
    url = supervisor.wait_for(r"Status on (\S+)\n")[1]
    pid = supervisor.serving()
    supervisor.wait_for(f"supervisor {url}\n")
    with urllib.request.urlopen(f"{url}/status") as reply:
        assert json.load(reply)["pid"] == pid
    command = urllib.request.Request(f"{url}/stop", method="POST", headers={"Authorization": "Bearer secret"})
    with urllib.request.urlopen(command) as reply:
        assert not json.load(reply)["process_running"]
    wait_gone(pid)
    supervisor.process.send_signal(signal.SIGTERM)
    assert supervisor.end()[0] == 0


def test_a_service_outlives_a_server_that_is_given_up(start: Start) -> None:
    """It tells why there is none, and goes on until it is ended; a token is made up and printed."""
    supervisor = start("exit=2", "--status-port=0")
    url = supervisor.wait_for(r"Status on (\S+), token \S{20,}\n")[1]
    supervisor.wait_for(r"failed \|")
    with urllib.request.urlopen(f"{url}/status") as reply:
        assert json.load(reply)["error"].startswith("the server ended with code 2")
    supervisor.process.send_signal(signal.SIGINT)
    assert supervisor.end()[0] == 0
