"""SIGTERM puts away what was begun, and nothing that waits keeps a process from ending."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from mlc_serve.errors import EXIT_TERMINATED
from mlc_serve.host.interruption import Terminated, ended_by_sigterm, interruptible

# A second signal comes while the first one's exception is on its way.
TERMINATED_TWICE = """
import signal
from mlc_serve.host.interruption import ended_by_sigterm

with ended_by_sigterm():
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.raise_signal(signal.SIGTERM)
        print("put away", flush=True)
"""
# Work that waits for ever, on threads that would keep the process from ending.
WAITS_FOR_EVER = """
import threading
from concurrent.futures import ThreadPoolExecutor
from mlc_serve.host.interruption import end_within, interruptible

def work():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(threading.Event().wait)
        print("waiting", flush=True)

try:
    interruptible(work)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    end_within(0.01, 3)
"""


def test_sigterm_unwinds_what_runs() -> None:
    """As an exception, with the code that a shell reports; afterwards signals are as they were."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated) as raised, ended_by_sigterm():
        signal.raise_signal(signal.SIGTERM)
    assert raised.value.code == EXIT_TERMINATED == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_who_takes_it_for_an_error_does_not_stop_it() -> None:
    """As a compiler does, one of whose passes fails."""

    def compile_anyway() -> None:
        with ended_by_sigterm(), suppress(SystemExit):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Terminated):
        compile_anyway()


def test_a_second_signal_does_not_keep_things_from_being_put_away() -> None:
    """The process ends with the first one's code."""
    result = subprocess.run(
        [sys.executable, "-c", TERMINATED_TWICE], capture_output=True, text=True, check=False
    )
    assert (result.stdout, result.returncode) == ("put away\n", EXIT_TERMINATED)


def test_on_another_thread_signals_are_left_alone() -> None:
    """They can be set on the main one alone."""
    ran: list[bool] = []

    def run() -> None:
        with ended_by_sigterm():
            ran.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert ran == [True]


def test_interruptible_work_returns_and_raises() -> None:
    """What it would without."""
    assert interruptible(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal")
def test_a_signal_ends_the_waiting_for_work() -> None:
    """And the process, though threads go on."""
    with subprocess.Popen(
        [sys.executable, "-c", WAITS_FOR_EVER], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert process.wait(30) == 3
