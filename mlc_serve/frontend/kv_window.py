"""The windows of a prompt's tokens that microserving calls name. Pure functions.

A window is [begin, end) in a prompt of n tokens. A negative position counts from the prompt's end. The
receiver computes at least the last token itself, since the first draw needs its logits.
"""

from __future__ import annotations

from typing import NamedTuple

from mlc_serve.errors import InvalidRequestError


class Window(NamedTuple):
    """The tokens at positions [begin, end) of a prompt."""

    begin: int
    end: int

    def whole_pages(self, page_size: int) -> Window:
        """Return the part that fills whole pages of a window that begins with a page. It may be empty."""
        end = self.end - self.end % page_size
        return Window(self.begin, max(self.begin, end))


def received_end(end: int, num_prompt: int) -> int:
    """Return where the window of `prep_recv` ends, which begins at 0. Raises InvalidRequestError."""
    position = _from_start(end, num_prompt)
    if not 0 <= position < num_prompt:
        raise InvalidRequestError(
            f"end: {end} is not a position in this prompt of {num_prompt} tokens: it must be less than "
            f"{num_prompt}, because the receiver computes at least the last token itself, and at least "
            f"{-num_prompt}, where a negative one counts from the prompt's end.",
            "end",
        )
    return position


def sent_window(begin: int, end: int, num_prompt: int) -> Window:
    """Return the window of `remote_send`. Raises InvalidRequestError."""
    position = _from_start(end, num_prompt)
    if not 0 <= position <= num_prompt:
        raise InvalidRequestError(
            f"end: {end} is not a position in this prompt of {num_prompt} tokens: it must be from "
            f"{-num_prompt} to {num_prompt}, where a negative one counts from the prompt's end.",
            "end",
        )
    if not 0 <= begin < position:
        raise InvalidRequestError(
            f"begin: {begin} must be at least 0 and less than end, which is position {position}.", "begin"
        )
    return Window(begin, position)


def started_begin(begin: int, num_prompt: int) -> int:
    """Return the position at which `start_generate` begins. Raises InvalidRequestError."""
    position = _from_start(begin, num_prompt)
    if not 0 <= position < num_prompt:
        raise InvalidRequestError(
            f"begin: {begin} is not a position in this prompt of {num_prompt} tokens: it must be from "
            f"{-num_prompt} to {num_prompt - 1}, where a negative one counts from the prompt's end.",
            "begin",
        )
    return position


def _from_start(position: int, num_prompt: int) -> int:
    return position + num_prompt if position < 0 else position
