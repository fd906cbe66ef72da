"""WholeEvents: divides a stream of server-sent events between events only.

So a stream that breaks off can still be ended with an event that says why.
"""

from __future__ import annotations

_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
# More than this is not kept back: it is no stream of events.
_MOST_BYTES = 1024 * 1024


class WholeEvents:
    """Keeps back the beginning of an event until its end is there. Changes no byte."""

    def __init__(self) -> None:
        self._rest = b""

    def cut(self, part: bytes) -> bytes:
        """Return what can be sent now that this part has arrived, perhaps nothing."""
        if not self._rest and part.endswith(b"\n\n"):
            return part
        text = self._rest + part
        end = max(text.rfind(mark) + len(mark) if mark in text else 0 for mark in _ENDS)
        if not end and len(text) > _MOST_BYTES:
            end = len(text)
        self._rest = text[end:]
        return text[:end]

    def rest(self) -> bytes:
        """Return what was kept back, at the end of a stream that is complete."""
        return self._rest
