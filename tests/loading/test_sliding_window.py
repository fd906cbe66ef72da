"""Which window sequences are seen through, by the settings and by what an MLC directory states."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mlc_serve.config.sliding_window import SlidingWindow
from mlc_serve.errors import ConfigError
from mlc_serve.loading.sliding_window import choose_window
from mlc_serve.models.sequence_window import for_window


def chosen(
    size: int | None, sinks: int | None, stated: SlidingWindow | None = None, kind: str = "cpu"
) -> SlidingWindow | None:
    """The window for a checkpoint that states one, or none."""
    checkpoint: Any = SimpleNamespace(config=for_window({}, stated))
    return choose_window(size, sinks, checkpoint, kind)


@pytest.mark.parametrize(
    ("size", "sinks", "expected"),
    [
        (None, None, SlidingWindow(64, 4)),
        (100, None, SlidingWindow(100, 4)),
        (None, 0, SlidingWindow(64, 0)),
        (-1, None, None),
    ],
)
def test_settings_replace_what_a_directory_states(
    size: int | None, sinks: int | None, expected: SlidingWindow | None
) -> None:
    """Each for itself, and -1 replaces it by no window."""
    assert chosen(size, sinks, SlidingWindow(64, 4)) == expected


def test_without_a_setting_there_is_no_window() -> None:
    """Nor are there sinks by default."""
    assert chosen(None, None) is None
    assert chosen(32, None) == SlidingWindow(32, 0)


@pytest.mark.parametrize(
    ("size", "sinks", "kind", "fault"),
    [
        (0, None, "cpu", "sliding_window_size=0 must be"),
        (None, 4, "cpu", "attention_sink_size=4 has no effect without"),
        (4, 4, "cpu", "attention_sink_size=4 must be less than sliding_window_size=4"),
        (64, None, "cuda", "sliding_window_size=64 is available on the CPU, not on cuda"),
    ],
)
def test_settings_without_a_meaning_are_refused(
    size: int | None, sinks: int | None, kind: str, fault: str
) -> None:
    """By their names."""
    with pytest.raises(ConfigError, match=fault):
        chosen(size, sinks, None, kind)


def test_on_a_gpu_a_stated_window_is_that_of_layers() -> None:
    """It is no longer that of whole sequences."""
    assert chosen(None, None, SlidingWindow(64, 4), "cuda") is None
