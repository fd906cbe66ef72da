"""Turns the errors of the tokenizers library, which is written in Rust and may panic, into our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlc_serve.errors import MLCServeError


@contextmanager
def tokenizer_faults(told_as: Callable[[str], Exception]) -> Iterator[None]:
    """Replace an error that the library raises by the one that `told_as` makes from its message.

    A panic reaches Python as a BaseException, not an Exception, of a class that can't be imported.
    """
    try:
        yield
    except (MLCServeError, MemoryError, OSError):
        raise
    except Exception as error:
        raise told_as(_one_line(error)) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise told_as(_one_line(error)) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
