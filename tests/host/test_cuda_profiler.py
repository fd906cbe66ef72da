"""The CUDA profiler's switch, on a driver library that only takes notes."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from mlc_serve.errors import RequestFailedError, UnsupportedFieldError
from mlc_serve.host.cuda_profiler import call_on_active_devices


class FakeDriver:
    """libcuda with some devices, of which some are in use. `calls` holds what was called in which context."""

    def __init__(self, in_use: list[bool], result: int = 0) -> None:
        self._in_use = in_use
        self._result = result
        self._context: int | None = None
        self.calls: list[tuple[str, int | None]] = []
        self.num_retained = 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802 - the driver's own name
        count._obj.value = len(self._in_use)
        return 0

    def cuDevicePrimaryCtxGetState(self, device: int, flags: Any, active: Any) -> int:  # noqa: N802
        active._obj.value = self._in_use[device]
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: int) -> int:  # noqa: N802
        context._obj.value = 100 + device
        self.num_retained += 1
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, device: int) -> int:  # noqa: N802
        self.num_retained -= 1
        return 0

    def cuCtxPushCurrent_v2(self, context: ctypes.c_void_p) -> int:  # noqa: N802
        self._context = context.value
        return 0

    def cuCtxPopCurrent_v2(self, context: Any) -> int:  # noqa: N802
        self._context = None
        return 0

    def cuProfilerStart(self) -> int:  # noqa: N802
        self.calls.append(("start", self._context))
        return self._result


def test_only_devices_in_use_are_profiled() -> None:
    """The switch is thrown in each context that this process computes in, and no context is kept."""
    driver = FakeDriver([False, True, True])
    call_on_active_devices(driver, "cuProfilerStart")
    assert driver.calls == [("start", 101), ("start", 102)]
    assert driver.num_retained == 0


@pytest.mark.parametrize("driver", [None, FakeDriver([]), FakeDriver([False])])
def test_nothing_to_profile(driver: FakeDriver | None) -> None:
    """No driver, no device, none in use: the client is told."""
    with pytest.raises(UnsupportedFieldError, match="CUDA"):
        call_on_active_devices(driver, "cuProfilerStart")


def test_a_refusal_is_told() -> None:
    """The driver's error code reaches the client, and no context is kept."""
    driver = FakeDriver([True], result=5)
    with pytest.raises(RequestFailedError, match="cuProfilerStart returned 5"):
        call_on_active_devices(driver, "cuProfilerStart")
    assert driver.num_retained == 0
