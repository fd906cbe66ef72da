"""Which window sequences are seen through: the one that is set, or that an MLC directory states."""

from __future__ import annotations

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.config.sliding_window import SlidingWindow
from mlc_serve.errors import ConfigError
from mlc_serve.models.sequence_window import window_of


def choose_window(
    size: int | None, sinks: int | None, checkpoint: Checkpoint, device_kind: str
) -> SlidingWindow | None:
    """Return the window. A setting that is None leaves the choice to the directory, and a size of -1 means no
    window. Raises ConfigError for settings that contradict each other, or that the device can't follow.

    On devices other than the CPU, a window that a directory states is that of its layers alone.
    """
    stated = window_of(checkpoint.config)
    if size == 0:
        raise ConfigError("sliding_window_size=0 must be a number of tokens, or -1 for no window")
    if device_kind != "cpu":
        _refuse_on_devices(size, device_kind)
        stated = None
    if size == -1 or (size is None and stated is None):
        if sinks:
            raise ConfigError(f"attention_sink_size={sinks} has no effect without sliding_window_size")
        return None
    of_directory = stated or SlidingWindow(size or 1)
    return SlidingWindow(size or of_directory.size, of_directory.sinks if sinks is None else sinks)


def _refuse_on_devices(size: int | None, device_kind: str) -> None:
    if size is not None and size != -1:
        raise ConfigError(f"sliding_window_size={size} is available on the CPU, not on {device_kind}")
