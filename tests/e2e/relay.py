"""A relay between two ends of a connection, which holds what one end sends after some bytes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PIECE = 4096


class Relay:
    """Passes one connection at a time on to `port`. `num_passed` counts the bytes that the connecting end has
    sent through it. After `most` of them it passes none on, and sets `is_holding`.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.port: int = listener.getsockname()[1]
        self.target = 0
        self.most: int | None = None
        self.num_passed = 0
        self.is_holding = threading.Event()

    def lead_to(self, port: int, most: int | None = None) -> None:
        """Pass the next connection on to this port."""
        self.target, self.most, self.num_passed = port, most, 0
        self.is_holding.clear()

    def serve(self) -> None:
        """Pass connections on until the listener is closed."""
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                with near, socket.create_connection(("127.0.0.1", self.target)) as far:
                    back = threading.Thread(target=_pass_on, args=(far, near))
                    back.start()
                    self._pass_most(near, far)
                    back.join()

    def _pass_most(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while self.num_passed != self.most and (data := near.recv(self._room())):
                far.sendall(data)
                self.num_passed += len(data)
            if self.num_passed == self.most:
                self.is_holding.set()
                while near.recv(_PIECE):  # is dropped, until one of the ends has gone
                    pass
        _close(near, far)

    def _room(self) -> int:
        return _PIECE if self.most is None else min(_PIECE, self.most - self.num_passed)


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_PIECE):
            sink.sendall(data)
    _close(source, sink)


def _close(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay() -> Iterator[Relay]:
    """A running relay."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        own = Relay(listener)
        thread = threading.Thread(target=own.serve)
        thread.start()
        try:
            yield own
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
