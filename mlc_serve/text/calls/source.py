"""The text of an answer while it arrives, and the steps of which readers of answers are composed.

A reader is a generator. It yields parts, and None where it needs more text before it can go on; whoever runs
it then adds text to the Source. So a reader is written as if the whole text were there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from typing import TypeVar

from mlc_serve.text.calls.parts import Part
from mlc_serve.text.calls.scan import MismatchError, Scan, UnfinishedError

T = TypeVar("T")

# What readers yield; T is what they return.
Reading = Generator[Part | None, None, T]


class Source:
    """The text that has arrived and is not used yet. `is_last` says that no more will arrive, and
    `is_in_reasoning` whether the reader is behind the mark that begins reasoning, and not behind its end.
    """

    def __init__(self) -> None:
        self.text = ""
        self.is_last = False
        self.is_in_reasoning = False

    def drop(self, num_characters: int) -> None:
        """Use up the beginning of the text."""
        self.text = self.text[num_characters:]


def text_until(
    source: Source, marks: Collection[str], part: Callable[[str], Part] = str, *, strips: bool = False
) -> Reading[str | None]:
    """Yield the text before the first mark, each piece as a `part`. Return that mark, which stays in the
    source, or None if the text ends first.

    Only what could begin a mark is held back; with `strips` also white space, which is dropped before the
    mark and at the end.
    """
    spaces: list[str] = []  # apart from the source, whose text is searched again
    while True:
        mark, end = _first_mark(source.text, marks)
        if mark is None and not source.is_last:
            end -= _length_of_mark_begun(source.text, marks)
        text = source.text[:end]
        source.drop(end)
        if shown := text.rstrip() if strips else text:
            yield part("".join([*spaces, shown]))
            spaces.clear()
        spaces.append(text[len(shown) :])
        if mark is not None or source.is_last:
            return mark
        yield None


def begins_with(source: Source, word: str) -> Reading[bool]:
    """Return whether the text begins with a word, as soon as that is certain."""
    while not source.is_last and len(source.text) < len(word) and word.startswith(source.text):
        yield None
    return source.text.startswith(word)


def skip(source: Source, word: str) -> Reading[bool]:
    """Use up a word if the text begins with it, and return whether it does."""
    if not (yield from begins_with(source, word)):
        return False
    source.drop(len(word))
    return True


def skip_space(source: Source) -> Reading[None]:
    """Use up white space."""
    while True:
        source.text = source.text.lstrip()
        if source.text or source.is_last:
            return
        yield None


def peek(source: Source, scanned: Callable[[Scan], T]) -> Reading[tuple[T, int] | None]:
    """Return what a scan of the beginning returns and how many characters it took, or None if the text
    begins otherwise.
    """
    while True:
        scan = Scan(source.text)
        try:
            return scanned(scan), scan.position
        except MismatchError:
            return None
        except UnfinishedError:
            if source.is_last:
                return None
        yield None


def attempt(source: Source, scanned: Callable[[Scan], T]) -> Reading[T | None]:
    """Do the same as `peek`, and use up the characters."""
    found = yield from peek(source, scanned)
    if found is None:
        return None
    source.drop(found[1])
    return found[0]


def _first_mark(text: str, marks: Collection[str]) -> tuple[str | None, int]:
    """Return the first mark and where it is, or None and the text's length."""
    found = [(position, mark) for mark in marks if (position := text.find(mark)) >= 0]
    if not found:
        return None, len(text)
    position, mark = min(found)
    return mark, position


def _length_of_mark_begun(text: str, marks: Collection[str]) -> int:
    """Return how many characters at the end of the text could begin a mark."""
    return max((_length_begun(text, mark) for mark in marks), default=0)


def _length_begun(text: str, mark: str) -> int:
    position = text.find(mark[0], max(len(text) - len(mark) + 1, 0))
    while position >= 0 and not mark.startswith(text[position:]):
        position = text.find(mark[0], position + 1)
    return len(text) - position if position >= 0 else 0
