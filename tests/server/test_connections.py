"""How many connections there may be; test_connection.py tests what happens to each, with real ones."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import pytest

from mlc_serve.config import ServerConfig
from mlc_serve.server.connections import MOST_CONNECTIONS, max_connections


@pytest.fixture
def allow_files(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Pretend that the process has 30 open files, and set how many it may have."""

    def allow(count: int) -> None:
        monkeypatch.setattr(psutil.Process, "num_fds", lambda self: 30, raising=False)
        monkeypatch.setattr(psutil.Process, "rlimit", lambda self, kind: (count, count), raising=False)
        monkeypatch.setattr(psutil, "RLIMIT_NOFILE", 7, raising=False)

    return allow


def test_the_limit_that_was_set(allow_files: Callable[[int], None]) -> None:
    """A limit that was set is taken as it is."""
    allow_files(100)
    assert max_connections(ServerConfig(max_connections=5000)) == 5000


@pytest.mark.parametrize(("files", "connections"), [(128, 58), (1_000_000, MOST_CONNECTIONS), (40, 1)])
def test_the_limit_that_files_leave(allow_files: Callable[[int], None], files: int, connections: int) -> None:
    """Some files are left for other uses, the limit has an upper bound, and at least one connection fits."""
    allow_files(files)
    assert max_connections(ServerConfig()) == connections


def test_a_limit_of_files_that_is_none(allow_files: Callable[[int], None]) -> None:
    """A file limit of -1, by which some systems mean that there is none, allows the most connections."""
    allow_files(-1)
    assert max_connections(ServerConfig()) == MOST_CONNECTIONS
