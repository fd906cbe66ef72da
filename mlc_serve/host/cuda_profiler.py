"""Starts and stops the collection of a CUDA profiler (`nsys profile --capture-range=cudaProfilerApi`).

Calls NVIDIA's driver library, for all devices that this process computes on. Needs no engine.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

from mlc_serve.errors import RequestFailedError, UnsupportedFieldError

_LIBRARY = "libcuda.so.1"


def start() -> None:
    """Start to collect. Raises UnsupportedFieldError if this process uses no CUDA device."""
    call_on_active_devices(_driver(), "cuProfilerStart")


def stop() -> None:
    """Stop collecting. Raises UnsupportedFieldError if this process uses no CUDA device."""
    call_on_active_devices(_driver(), "cuProfilerStop")


def call_on_active_devices(driver: Any, function: str) -> None:
    """Call a function of the driver library in the context of each device in use.

    `driver` is None if there is no such library. Raises UnsupportedFieldError if no device is in use, and
    RequestFailedError if the driver returns an error.
    """
    devices = [] if driver is None else list(_active_devices(driver))
    if not devices:
        raise UnsupportedFieldError("There is nothing to profile: no model of this server runs on CUDA.")
    for device in devices:
        _in_context(driver, device, function)


def _driver() -> Any:
    """The driver library; None if there is no driver or no device."""
    try:
        driver = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    return driver if driver.cuInit(0) == 0 else None


def _active_devices(driver: Any) -> Iterator[int]:
    """The devices on which this process has a primary context, in which the CUDA runtime computes."""
    count, flags, active = ctypes.c_int(), ctypes.c_uint(), ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    for device in range(count.value):
        driver.cuDevicePrimaryCtxGetState(device, ctypes.byref(flags), ctypes.byref(active))
        if active.value:
            yield device


def _in_context(driver: Any, device: int, function: str) -> None:
    context = ctypes.c_void_p()
    _check(driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), "cuDevicePrimaryCtxRetain")
    try:
        _check(driver.cuCtxPushCurrent_v2(context), "cuCtxPushCurrent")
        result = getattr(driver, function)()
        driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
        _check(result, function)
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)


def _check(result: int, function: str) -> None:
    if result != 0:
        raise RequestFailedError(f"CUDA refused: {function} returned {result}.")
