"""How many connections there may be; what becomes of each is tested with real ones in test_connection.py."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import pytest

from mlc_serve.config import ServerConfig
from mlc_serve.server.connections import MOST_CONNECTIONS, max_connections


@pytest.fixture
def allow_files(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets a process have 30 open files, and a number that it may have."""

    def allow(count: int) -> None:
        monkeypatch.setattr(psutil.Process, "num_fds", lambda self: 30, raising=False)
        monkeypatch.setattr(psutil.Process, "rlimit", lambda self, kind: (count, count), raising=False)
        monkeypatch.setattr(psutil, "RLIMIT_NOFILE", 7, raising=False)

    return allow


def test_the_limit_that_was_set(allow_files: Callable[[int], None]) -> None:
    """It is taken as it is."""
    allow_files(100)
    assert max_connections(ServerConfig(max_connections=5000)) == 5000


@pytest.mark.parametrize(("files", "connections"), [(128, 58), (1_000_000, MOST_CONNECTIONS), (40, 1)])
def test_the_limit_that_files_leave(allow_files: Callable[[int], None], files: int, connections: int) -> None:
    """Some files are left for others, and a great many are not used up; one connection is always possible."""
    allow_files(files)
    assert max_connections(ServerConfig()) == connections


def test_a_limit_of_files_that_is_none(allow_files: Callable[[int], None]) -> None:
    """Some systems say -1 for a limit that there isn't."""
    allow_files(-1)
    assert max_connections(ServerConfig()) == MOST_CONNECTIONS
