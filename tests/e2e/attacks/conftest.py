"""One attacked server for all attacks that need no settings of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.attacks.attack import ANSWER, QUESTION
from tests.e2e.attacks.server import AttackedServer, attacked_server
from tests.scripted_checkpoint import Endless, Reply, write_scripted_checkpoint

# Ends a prompt whose reply goes on until it is cut off.
STORY = "Tell me a story."


@pytest.fixture(scope="session")
def attacked_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers QUESTION with ANSWER, and STORY with no end."""
    replies: dict[str, Reply] = {QUESTION: ANSWER, STORY: Endless("Once upon a time there was a fox. ")}
    return write_scripted_checkpoint(tmp_path_factory.mktemp("attacked") / "model", replies)


@pytest.fixture(scope="session")
def attacked(attacked_checkpoint: Path) -> Iterator[AttackedServer]:
    """A server with default settings."""
    with attacked_server(attacked_checkpoint) as server:
        yield server
