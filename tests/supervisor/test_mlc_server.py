"""Real processes under MLCServer: they start, fail in many ways, are restarted, and leave nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlc_serve.errors import CommandError, PortInUseError, SupervisionError
from mlc_serve.host.processes import this_platform
from mlc_serve.host.processes.tree import ProcessTree
from mlc_serve.supervisor import MLCServer, MLCServerConfig, MLCServerStatus, child, supervised_run
from mlc_serve.supervisor.command import MLC_SERVE
from mlc_serve.supervisor.probe import fault_of
from mlc_serve.supervisor.supervised_run import SupervisedRun
from tests.patience import PATIENCE
from tests.supervisor.supervised import (
    NUM_FLOOD_LINES,
    QUICK,
    config_for,
    fake_command,
    free_port,
    ready,
    status_where,
    wait_gone,
)

ROOT = Path(__file__).parent.parent.parent
# Runs a supervisor in a separate process, and prints the id of the server's process.
SUPERVISOR = """
import asyncio, sys
from mlc_serve.supervisor import MLCServer
from tests.supervisor.supervised import config_for

async def main():
    server = MLCServer(config_for(sys.argv[1]))
    await server.start_server()
    print((await server.wait_for_server_ready()).pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
async def servers() -> AsyncIterator[list[MLCServer]]:
    """A list of servers that are stopped after the test."""
    started: list[MLCServer] = []
    yield started
    for server in started:
        server.kill_sync()
        await server.close()


@pytest.fixture
def left_over() -> Callable[[], list[psutil.Process]]:
    """The processes that this test started and that still run; those of other tests do not count."""
    process = psutil.Process()
    before = process.children(recursive=True)
    return lambda: [child for child in process.children(recursive=True) if child not in before]


def make(servers: list[MLCServer], mode: str = "serve", **settings: Any) -> MLCServer:
    """A supervisor of a fake child."""
    servers.append(MLCServer(config_for(mode, **settings)))
    return servers[-1]


async def test_a_server_starts_serves_and_stops(
    servers: list[MLCServer], left_over: Callable[[], list[psutil.Process]]
) -> None:
    """From start to stop, the status has the process, the port, whether it answers, and since when."""
    server = make(servers)
    seen: list[MLCServerStatus] = []
    server.on_status_changed(seen.append)
    starting = await server.start_server()
    assert (starting.process_running, starting.http_available) == (True, False)
    assert starting.port == server.config.port
    serving = await server.wait_for_server_ready()
    assert (serving.http_available, serving.pid, serving.error) == (True, starting.pid, None)
    assert serving.since > starting.since
    assert await server.health_check()
    stopped = await server.stop_server()
    assert (stopped.process_running, stopped.port, stopped.pid, stopped.error) == (False, None, None, None)
    assert not await server.health_check()
    assert [status.word for status in seen] == ["starting", "serving", "stopped"]
    assert left_over() == []


async def test_a_death_at_start_is_told_with_the_last_words(servers: list[MLCServer]) -> None:
    """If a server keeps ending before it serves, the error has its exit code and its output."""
    server = make(servers, "exit=3", restart_limit=2)
    await server.start_server()
    status = await status_where(server, lambda status: status.error and "gave up" in status.error)
    error = str(status.error)
    assert error.startswith("gave up after 2 restarts within 300 s; the last time the server ended")
    assert "with code 3:" in error
    assert f"on {server.config.port}," in error
    assert (status.restarts, status.word) == (2, "failed")
    with pytest.raises(SupervisionError, match="gave up"):
        await server.wait_for_server_ready()


async def test_a_bad_configuration_is_not_tried_again(servers: list[MLCServer]) -> None:
    """Exit code 2, which says that this command line will never start, is not followed by a restart."""
    server = make(servers, "exit=2")
    await server.start_server()
    status = await status_where(server, lambda status: status.error)
    assert (status.word, status.restarts) == ("failed", 0)
    assert str(status.error).startswith("the server ended with code 2:")


async def test_a_death_later_is_restarted(servers: list[MLCServer]) -> None:
    """After SIGKILL the status says so, and another process serves on the same port."""
    server = make(servers)
    await server.start_server()
    first = await ready(server)
    os.kill(first.pid or 0, signal.SIGKILL)
    failed = await status_where(server, lambda status: status.error)
    assert str(failed.error).startswith("SIGKILL ended the server:")
    second = await ready(server)
    assert second.pid != first.pid
    assert (second.port, second.restarts, second.error) == (first.port, 1, None)


async def test_a_hanging_server_is_restarted(servers: list[MLCServer]) -> None:
    """A server that is silent for too long, here after SIGSTOP, is killed, and another one is started."""
    server = make(servers, health_timeout=0.3)
    await server.start_server()
    first = await ready(server)
    os.kill(first.pid or 0, signal.SIGSTOP)
    silent = await status_where(server, lambda status: not status.http_available)
    assert (silent.word, silent.pid) == ("unavailable", first.pid)
    assert "no answer from" in str(silent.error)
    failed = await status_where(server, lambda status: not status.process_running)
    assert "the server runs, but does not serve: no answer" in str(failed.error)
    wait_gone(first.pid or 0)
    assert (await ready(server)).pid != first.pid


async def test_a_short_silence_is_tolerated(
    servers: list[MLCServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe that fails makes the server unavailable, and one that succeeds makes it available again."""
    monkeypatch.chdir(tmp_path)
    server = make(servers, "hidden", health_tolerance=1000)
    await server.start_server()
    first = await ready(server)
    (tmp_path / "hide").touch()
    await status_where(server, lambda status: not status.http_available)
    (tmp_path / "hide").unlink()
    again = await ready(server)
    assert (again.pid, again.error, again.restarts) == (first.pid, None, 0)


async def test_a_server_that_is_never_ready_is_given_up(servers: list[MLCServer]) -> None:
    """Waiting for a start has a limit, and so has the start itself, which then ends the process."""
    server = make(servers, "never-ready", startup_timeout=0.5, restart_limit=0)
    pid = (await server.start_server()).pid
    with pytest.raises(SupervisionError, match=r"not ready within 2 times 0\.01 s"):
        await server.wait_for_server_ready(2, 0.01)
    status = await status_where(server, lambda status: not status.process_running)
    assert str(status.error).startswith("the server was not ready within 0.5 s")
    wait_gone(pid or 0)


async def test_a_flood_of_output_blocks_nobody(
    servers: list[MLCServer], caplog: pytest.LogCaptureFixture
) -> None:
    """A server that prints 4 MB to either stream starts, as all of it is read; the last lines are kept."""
    server = make(servers, "floods", restart_limit=0)
    with caplog.at_level("INFO", logger="mlc_serve.supervisor.output"):
        await server.start_server()
        os.kill((await ready(server)).pid or 0, signal.SIGKILL)
        status = await status_where(server, lambda status: not status.process_running and status.error)
    assert any(message.startswith("Serving") for message in caplog.messages)
    end, *last = str(status.error).splitlines()
    assert end == "SIGKILL ended the server:"
    assert len(last) == 20
    numbers = [int(line.split()[0]) for line in last if not line.startswith("Serving")]
    assert min(numbers) >= NUM_FLOOD_LINES - 20


async def test_questions_change_nothing(servers: list[MLCServer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking whether the server serves neither changes its status nor calls any callback."""
    asked = asyncio.Event()

    async def fault(*details: Any) -> str | None:
        """Report to the first caller, which is the supervisor itself, that there is no answer yet."""
        if asked.is_set():
            return await fault_of(*details)
        asked.set()
        return "no answer yet"

    monkeypatch.setattr(supervised_run, "fault_of", fault)
    server = make(servers, ready_interval=PATIENCE)
    await server.start_server()
    await asked.wait()
    seen: list[MLCServerStatus] = []
    server.on_status_changed(seen.append)
    before = server.get_status()
    while not await server.health_check():
        assert server.get_status() == before
    with pytest.raises(SupervisionError):
        await server.wait_for_server_ready(1, 0.01)
    assert server.get_status() == before
    assert (before.word, seen) == ("starting", [])


async def test_a_question_takes_nothing_back(
    servers: list[MLCServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A health_check that fails does not count as a failed probe."""
    monkeypatch.chdir(tmp_path)
    server = make(servers, "hidden", health_interval=PATIENCE)
    await server.start_server()
    serving = await ready(server)
    (tmp_path / "hide").touch()
    assert not await server.health_check()
    assert server.get_status() == serving


async def test_one_probe_serves_all_who_wait(
    servers: list[MLCServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the supervisor asks the server whether it is ready, however many callers wait."""
    askers: set[asyncio.Task[Any] | None] = set()

    async def fault(*details: Any) -> str | None:
        askers.add(asyncio.current_task())
        return await fault_of(*details)

    monkeypatch.setattr(supervised_run, "fault_of", fault)
    server = make(servers)
    await server.start_server()
    first, second = await asyncio.gather(server.wait_for_server_ready(), server.wait_ready())
    assert first.pid == second.pid
    assert len(askers) == 1


async def test_a_key_that_is_asked_for_is_an_answer(servers: list[MLCServer]) -> None:
    """A server that answers 401, because it requires a key, is available."""
    server = make(servers, "unauthorized")
    await server.start_server()
    assert (await ready(server)).http_available


async def test_the_next_port_is_taken_if_another_process_has_one(servers: list[MLCServer]) -> None:
    """A port on which another process listens is skipped, and the status has the chosen one."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        server = make(servers, port=taken)
        await server.start_server()
        status = await ready(server)
    assert taken < (status.port or 0) <= taken + 99


async def test_a_port_that_is_lost_to_another_process_is_no_failure(servers: list[MLCServer]) -> None:
    """A server that finds its port taken after all is started at once on the next one."""
    even = free_port() // 2 * 2
    server = make(servers, "takes-port", port=even, restart_delay=60.0)
    await server.start_server()
    status = await ready(server)
    assert ((status.port or 0) % 2, status.restarts) == (1, 0)


async def test_our_exit_code_for_a_taken_port_is_understood(servers: list[MLCServer]) -> None:
    """After exit code 75 another port is tried, until none is left to try."""
    server = make(servers, "exit=75", port_attempts=2, restart_limit=0)
    await server.start_server()
    status = await status_where(server, lambda status: status.error)
    assert "another process took port" in str(status.error)


async def test_no_port_is_an_error_at_once(servers: list[MLCServer]) -> None:
    """If all ports that may be tried are taken, the start raises an error, which is also in the status."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        server = make(servers, port=stranger.getsockname()[1], port_attempts=1)
        with pytest.raises(PortInUseError, match="in use on 127"):
            await server.start_server()
    assert "in use" in str(server.get_status().error)


async def test_a_strangers_answer_is_not_the_servers(servers: list[MLCServer]) -> None:
    """An answer counts only if it comes from the process that was started."""
    server = make(servers, "never-ready", restart_limit=0)
    port = (await server.start_server()).port
    stranger = subprocess.Popen([*fake_command(), f"--port={port}"], stdout=subprocess.PIPE)
    with stranger:
        assert stranger.stdout is not None
        stranger.stdout.readline()
        assert not await server.health_check()
        stranger.kill()


async def test_who_ignores_sigint_is_killed_with_all_below(servers: list[MLCServer], tmp_path: Path) -> None:
    """After the grace period the whole tree is killed, even a child that has left the process group."""
    family = tmp_path / "family"
    server = make(servers, f"ignores-sigint,family={family}", stop_timeout=0.2)
    await server.start_server()
    status = await ready(server)
    children = [int(pid) for pid in family.read_text().split()]
    await server.stop_server()
    wait_gone(status.pid or 0, *children)


async def test_what_a_dead_server_leaves_behind_is_killed(servers: list[MLCServer], tmp_path: Path) -> None:
    """When a server dies, its children in the process group are ended too, before another one is started."""
    family = tmp_path / "family"
    ended: list[int] = []

    def spawn(command: Sequence[str], env: Mapping[str, str], inherited: Sequence[int] = ()) -> ProcessTree:
        """Start the first server. Instead of the second one, wait for the end of the first one's child."""
        if not family.exists():
            return this_platform()(command, env, inherited)
        wait_gone(inside)
        ended.append(inside)
        raise OSError(errno.EAGAIN, "no second one")

    server = MLCServer(config_for(f"family={family}", restart_limit=1), spawn=spawn)
    servers.append(server)
    await server.start_server()
    status = await ready(server)
    inside, outside = (int(pid) for pid in family.read_text().split())
    os.kill(status.pid or 0, signal.SIGKILL)
    await status_where(server, lambda status: status.error and "gave up" in status.error)
    assert ended == [inside]
    psutil.Process(outside).kill()  # it left the group and lost its parent: it can't be found any more


async def test_two_starts_are_one_server(servers: list[MLCServer]) -> None:
    """Starting a running server changes nothing, and is refused with other settings."""
    server = make(servers)
    first, second = await asyncio.gather(server.start_server(), server.start_server(server.config))
    assert first.pid == second.pid
    with pytest.raises(SupervisionError, match="other settings"):
        await server.start_server(config_for("exit=2"))


async def test_a_start_during_a_stop_waits_for_it(servers: list[MLCServer]) -> None:
    """A start that is called during a stop takes effect after it."""
    server = make(servers)
    first = await server.start_server()
    await ready(server)
    stopped, second = await asyncio.gather(server.stop_server(), server.start_server())
    assert not stopped.process_running
    assert second.process_running
    assert second.pid != first.pid


async def test_a_stop_during_a_start_ends_it(servers: list[MLCServer]) -> None:
    """A server can be stopped while it is still starting."""
    server = make(servers, "never-ready")
    pid = (await server.start_server()).pid
    assert (await server.stop_server()).word == "stopped"
    wait_gone(pid or 0)


class NotedTree:
    """A process tree that notes its interrupts, and loses the first ones."""

    def __init__(self, tree: ProcessTree, num_lost: int) -> None:
        self._tree = tree
        self._num_lost = num_lost
        self.process = tree.process
        self.num_interrupts = 0
        self.is_killed = False

    def interrupt(self) -> None:
        """Interrupt the process, unless this interrupt is one of those that are lost."""
        self.num_interrupts += 1
        if self.num_interrupts > self._num_lost:
            self._tree.interrupt()

    def kill(self) -> None:
        """Kill the tree."""
        self.is_killed = True
        self._tree.kill()

    def release(self) -> None:
        """Release the tree."""
        self._tree.release()


def noted(servers: list[MLCServer], mode: str, num_lost: int, **settings: Any) -> list[NotedTree]:
    """Add a supervisor of a fake child, and return the list that gets the trees that it starts."""
    trees: list[NotedTree] = []

    def spawn(command: Sequence[str], env: Mapping[str, str], inherited: Sequence[int] = ()) -> ProcessTree:
        trees.append(NotedTree(this_platform()(command, env, inherited), num_lost))
        return trees[-1]

    servers.append(MLCServer(config_for(mode, **settings), spawn=spawn))
    return trees


async def test_an_interrupt_that_is_lost_during_a_start_is_repeated(
    servers: list[MLCServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that does not serve yet is interrupted until it ends, since Python may lose an interrupt while
    it imports.
    """
    monkeypatch.setattr(child, "REPEAT_SECONDS", 0.01)
    trees = noted(servers, "never-ready", num_lost=2)
    await servers[0].start_server()
    assert (await servers[0].stop_server()).word == "stopped"
    assert trees[0].num_interrupts >= 3
    assert not trees[0].is_killed


async def test_a_server_that_serves_is_interrupted_once(
    servers: list[MLCServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that serves gets one interrupt, because a second one would end its open requests."""
    monkeypatch.setattr(child, "REPEAT_SECONDS", 0.001)
    trees = noted(servers, "slow-end", num_lost=0, stop_timeout=0.1)
    await servers[0].start_server()
    await ready(servers[0])
    await servers[0].stop_server()
    assert (trees[0].num_interrupts, trees[0].is_killed) == (1, True)


async def test_a_start_during_a_back_off_is_at_once(servers: list[MLCServer], tmp_path: Path) -> None:
    """A start during a back-off does not wait for the next restart, and counts restarts from 0."""
    broken = tmp_path / "broken"
    broken.touch()
    server = make(servers, f"fails={broken}", restart_delay=600.0, restart_max_delay=600.0)
    await server.start_server()
    await status_where(server, lambda status: status.error)
    broken.unlink()
    await server.start_server()
    assert (await ready(server)).restarts == 0


async def test_a_stop_during_a_back_off_is_at_once(servers: list[MLCServer]) -> None:
    """A server that waits for its restart can be stopped at once."""
    server = make(servers, "exit=1", restart_delay=600.0, restart_max_delay=600.0)
    await server.start_server()
    await status_where(server, lambda status: status.error)
    assert (await server.stop_server()).word == "stopped"


async def test_restart_is_stop_and_start_with_other_settings(servers: list[MLCServer]) -> None:
    """A restart starts another process with the new settings."""
    server = make(servers)
    first = await server.start_server()
    await ready(server)
    other = config_for(api_keys=("secret",))
    second = await server.restart(other)
    assert second.pid != first.pid
    assert second.port == other.port
    assert server.config == other


async def test_auto_start_raises_nothing(servers: list[MLCServer]) -> None:
    """An error that keeps the server from starting is in the status, where applications look for it."""
    server = MLCServer(MLCServerConfig(port=free_port(), command=("/no/such/program",)))
    servers.append(server)
    status = await server.auto_start()
    assert (status.word, status.error) == ("failed", "can't run /no/such/program: No such file or directory")
    with pytest.raises(CommandError):
        await server.start_server()
    assert (await server.start_server(config_for())).process_running


async def test_kill_sync_needs_no_loop_and_no_thread(servers: list[MLCServer], tmp_path: Path) -> None:
    """Called from another thread, kill_sync ends the whole process tree, and nothing is restarted."""
    family = tmp_path / "family"
    server = make(servers, f"ignores-sigint,family={family}")
    await server.start_server()
    status = await ready(server)
    killer = threading.Thread(target=server.kill_sync)
    killer.start()
    killer.join()
    assert not server.get_status().process_running
    wait_gone(status.pid or 0, *(int(pid) for pid in family.read_text().split()))
    stopped = await status_where(server, lambda status: status.word == "stopped")
    assert stopped.error is None
    assert (await server.start_server()).process_running


async def test_kill_sync_in_a_signal_handler_interrupts_anything(
    servers: list[MLCServer], left_over: Callable[[], list[psutil.Process]]
) -> None:
    """Wherever the signal arrives, even in a start or a stop, nothing blocks and no process is left."""
    server = make(servers)
    previous = signal.signal(signal.SIGALRM, lambda *_: server.kill_sync())
    try:
        for step in range(10):
            signal.setitimer(signal.ITIMER_REAL, 0.0005 + step * 0.001)
            await server.start_server()
            await server.stop_server()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert left_over() == []


async def test_the_death_of_the_supervisor_ends_the_server(tmp_path: Path) -> None:
    """When the supervisor is killed, the server and its children in the process group end."""
    family = tmp_path / "family"
    command = [sys.executable, "-c", SUPERVISOR, f"ignores-sigint,family={family}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        inside, outside = (int(word) for word in family.read_text().split())
        assert psutil.pid_exists(pid)
        supervisor.kill()
    wait_gone(pid, inside)
    psutil.Process(outside).kill()


async def test_a_failure_of_the_supervision_leaves_no_process(
    servers: list[MLCServer], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in the supervision ends the server rather than leaving it unwatched."""

    async def fail(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(SupervisedRun, "_until_unhealthy", fail)
    server = make(servers)
    pid = (await server.start_server()).pid
    status = await status_where(server, lambda status: status.error)
    assert status.error == "the supervision of the server has failed: ZeroDivisionError('a bug')"
    wait_gone(pid or 0)
    assert "ZeroDivisionError" in caplog.text


async def test_events_outlive_no_server() -> None:
    """Leaving the context stops the server, and its iterators end after the statuses that they hold."""
    async with MLCServer(config_for()) as server:
        changes = server.status_events()
        await server.start_server()
    assert [status.word async for status in changes] == ["starting", "stopped"]


async def test_a_hundred_cycles_leave_nothing_behind(
    left_over: Callable[[], list[psutil.Process]],
) -> None:
    """After a hundred starts and stops, no process, thread or file descriptor is left."""
    server = MLCServer(config_for())
    await cycle(server)
    process = psutil.Process()
    before = (process.num_fds(), threading.active_count())
    for _ in range(100):
        await cycle(server)
    assert left_over() == []
    assert process.num_fds() <= before[0]
    assert threading.active_count() <= before[1]


async def cycle(server: MLCServer) -> None:
    """Start a server, wait until it serves, and stop it."""
    await server.start_server()
    await ready(server)
    await server.stop_server()


@pytest.mark.parametrize("is_own", [True, False])
async def test_our_own_server_is_asked_for_its_health(
    servers: list[MLCServer], tmp_path: Path, is_own: bool
) -> None:
    """Our own server is asked for /health, which covers its engine; another command only for its models."""
    sickness = tmp_path / "sick"
    fake = fake_command(f"sick={sickness}")

    def spawn(command: Sequence[str], env: Mapping[str, str], inherited: Sequence[int] = ()) -> ProcessTree:
        return this_platform()([*fake, *command] if is_own else command, env, inherited)

    command = MLC_SERVE if is_own else fake
    settings = QUICK | {"port": free_port(), "command": command, "health_tolerance": 0}
    server = MLCServer(MLCServerConfig(**settings), spawn=spawn)
    servers.append(server)
    await server.start_server()
    await ready(server)
    sickness.touch()
    assert await server.health_check() is not is_own
    if is_own:
        status = await status_where(server, lambda status: status.error)
        assert "/health answered with status 503" in str(status.error)
