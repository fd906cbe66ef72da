"""Windows' job objects, by doubles of the system's calls: their order, and what is left after a failure."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import Popen
from typing import Any, cast

import pytest

from mlc_serve.host.processes.windows import ProcessJob, spawn_in


class FakeSystem:
    """Notes what is asked of it. Its `process` and `job` stand for those of the system."""

    def __init__(self, failing: str = "") -> None:
        self.calls: list[str] = []
        self.settings: dict[str, Any] = {}
        self.failing = failing
        self.pid = 7

    def note(self, call: str) -> None:
        self.calls.append(call)
        if call == self.failing:
            raise OSError(call)

    def popen(self, command: list[str], **settings: Any) -> Popen[bytes]:
        self.settings = settings
        self.note("start")
        return cast("Popen[bytes]", self)

    def send_signal(self, number: int) -> None:
        self.note(f"signal {number}")

    def kill(self) -> None:
        self.note("kill")

    def resume(self, pid: int) -> None:
        self.note(f"resume {pid}")

    def assign(self, process: object) -> None:
        self.note("assign")

    def terminate(self) -> None:
        self.note("terminate")

    def close(self) -> None:
        self.note("close")

    def spawn(self) -> ProcessJob:
        """Start a program in this system."""
        return spawn_in(self, ["program"], {"A": "b"}, self.popen, self.resume)


def test_a_program_runs_when_it_is_in_its_job() -> None:
    """It starts suspended and in a process group of its own, so that no child of it escapes."""
    system = FakeSystem()
    system.spawn()
    assert system.calls == ["start", "assign", "resume 7"]
    assert system.settings["creationflags"] == 0x200 | 0x4
    assert system.settings["env"] == {"A": "b"}


@pytest.mark.parametrize(
    ("act", "call"),
    [
        (ProcessJob.interrupt, "signal 1"),
        (ProcessJob.kill, "terminate"),
        (ProcessJob.release, "close"),
    ],
)
def test_what_is_asked_of_a_tree(act: Callable[[ProcessJob], None], call: str) -> None:
    """Ctrl-Break interrupts, the job kills, and its last handle ends it."""
    system = FakeSystem()
    act(system.spawn())
    assert system.calls[3:] == [call]


def test_without_a_console_an_interrupt_is_nothing() -> None:
    """The grace period passes, and the tree is killed."""
    FakeSystem("signal 1").spawn().interrupt()


@pytest.mark.parametrize(
    ("failing", "after"),
    [("start", ["close"]), ("assign", ["kill", "close"]), ("resume 7", ["kill", "close"])],
)
def test_a_failure_leaves_nothing(failing: str, after: list[str]) -> None:
    """Neither a suspended process nor a job."""
    system = FakeSystem(failing)
    with pytest.raises(OSError, match=failing):
        system.spawn()
    assert system.calls[system.calls.index(failing) + 1 :] == after
