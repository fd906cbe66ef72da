"""What the end of a process means."""

from __future__ import annotations

import pytest

from mlc_serve.supervisor.endings import Ending, ending_of

UVICORN = "[Errno 98] error while attempting to bind on address ('127.0.0.1', 8000): address already in use"


@pytest.mark.parametrize(
    ("code", "words", "was_ready", "ending"),
    [
        (75, "", False, Ending.PORT_TAKEN),
        (75, "", True, Ending.PORT_TAKEN),
        (1, UVICORN, False, Ending.PORT_TAKEN),
        (1, "OSError: [WinError 10048] ...", False, Ending.PORT_TAKEN),
        (1, UVICORN, True, Ending.FAILURE),
        (-9, UVICORN, False, Ending.FAILURE),
        (2, "", False, Ending.HOPELESS),
        (65, "", False, Ending.HOPELESS),
        (69, "", False, Ending.FAILURE),
        (74, "", False, Ending.FAILURE),
        (0, "", False, Ending.FAILURE),
        (1, "no such model", False, Ending.FAILURE),
        (70, "", True, Ending.FAILURE),
        (-11, "", True, Ending.FAILURE),
    ],
)
def test_codes_and_words(code: int, words: str, was_ready: bool, ending: Ending) -> None:
    """Our exit codes decide; of other servers that never served, so does what they printed."""
    assert ending_of(code, words, was_ready) is ending
