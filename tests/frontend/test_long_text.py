"""Where work on text is done."""

from __future__ import annotations

import threading

import pytest

from mlc_serve.frontend.long_text import LONG, beside_the_loop


@pytest.mark.parametrize(("num_characters", "on_loop"), [(LONG, True), (LONG + 1, False)])
async def test_long_texts_leave_the_loop_free(num_characters: int, on_loop: bool) -> None:
    """Work on a text that takes long runs on another thread; a short one is not worth the way there."""
    thread = await beside_the_loop(num_characters, threading.current_thread)
    assert (thread is threading.current_thread()) == on_loop


async def test_what_the_work_raises_is_raised() -> None:
    """A refusal reaches the client from a thread as well."""

    def refuse() -> None:
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        await beside_the_loop(LONG + 1, refuse)
