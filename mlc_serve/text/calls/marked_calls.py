"""Reads an answer in which calls follow a mark."""

from __future__ import annotations

from collections.abc import Callable

from mlc_serve.text.calls.source import Reading, Source, skip_space, text_until

# After this many marks without a valid call, the rest of an answer is content, since each costs a scan.
MAX_BROKEN = 100


def marked_calls(source: Source, mark: str, calls: Callable[[], Reading[bool]]) -> Reading[None]:
    """Yield content, and what `calls` yields behind each mark, up to the end.

    `calls` returns whether there was a call. If there was none it uses up no text, and the mark is content.
    White space after calls belongs to them.
    """
    num_broken = 0
    while num_broken < MAX_BROKEN and (yield from text_until(source, (mark,))):
        source.drop(len(mark))
        if (yield from calls()):
            yield from skip_space(source)
        else:
            num_broken += 1
            yield mark
    yield from text_until(source, ())
