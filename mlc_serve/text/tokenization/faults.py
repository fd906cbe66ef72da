"""Faults of the tokenizers library, which is written in Rust and may panic, as errors that say so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlc_serve.errors import MLCServeError


@contextmanager
def tokenizer_faults(told_as: Callable[[str], Exception]) -> Iterator[None]:
    """Raise what the library raises as another error, made from its words in one line.

    A panic reaches Python as an exception that is no Exception, and of a class that can't be imported.
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
