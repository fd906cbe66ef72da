"""Finds the device to run on. It asks TVM first, which may not be built for this kind of device, then the
driver.

The driver is asked in a separate process, because a broken driver can crash the process that asks.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from subprocess import TimeoutExpired

import tvm
import tvm_ffi

from mlc_serve.errors import DeviceError
from mlc_serve.host.processes import running

# In order of preference.
KINDS = ("cuda", "rocm", "metal", "vulkan", "opencl", "cpu")
_PROBE_SECONDS = 60
_PROBE = "import sys, tvm; sys.exit(0 if tvm.device(sys.argv[1], int(sys.argv[2])).exist else 1)"
_PROVIDERS = {
    "cuda": "an NVIDIA driver and a TVM built with USE_CUDA (the Linux wheel of apache-tvm is)",
    "rocm": "a TVM built with USE_ROCM",
    "metal": "a TVM built with USE_METAL (on macOS)",
    "vulkan": "a TVM built with USE_VULKAN",
    "opencl": "a TVM built with USE_OPENCL",
}


@dataclass(frozen=True)
class DeviceName:
    """A kind of device and its index."""

    kind: str
    index: int = 0

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}" if self.index else self.kind

    def open(self) -> tvm.runtime.Device:
        """Return TVM's handle of the device."""
        return tvm.device(self.kind, self.index)


def find_device(wanted: str) -> DeviceName:
    """Return the device that `wanted` names: `auto`, a kind, or `kind:index`.

    Raises DeviceError if the name is not valid, if TVM can't drive this kind of device (the message says
    what is needed for it), or if there is no such device.
    """
    if wanted == "auto":
        return next(DeviceName(kind) for kind in KINDS if _is_built_in(kind) and _exists(DeviceName(kind)))
    device = _parse(wanted)
    if not _is_built_in(device.kind):
        raise DeviceError(
            f"device {wanted!r}: this TVM can't drive {device.kind} devices; "
            f"they need {_PROVIDERS[device.kind]}"
        )
    if not _exists(device):
        raise DeviceError(f"device {wanted!r}: there is no such device on this machine")
    return device


def _parse(wanted: str) -> DeviceName:
    kind, colon, index = wanted.partition(":")
    if kind not in KINDS or (colon and not index.isdecimal()):
        raise DeviceError(f"device {wanted!r} is not auto, {', '.join(KINDS)}, or one of these with :index")
    return DeviceName(kind, int(index or 0))


def _is_built_in(kind: str) -> bool:
    return tvm_ffi.get_global_func(f"device_api.{kind}", allow_missing=True) is not None


def _exists(device: DeviceName) -> bool:
    if device.kind == "cpu":
        return device.index == 0
    command = [sys.executable, "-c", _PROBE, device.kind, str(device.index)]
    try:
        with running(command, os.environ) as probe:
            probe.communicate(timeout=_PROBE_SECONDS)
            return probe.returncode == 0
    except (TimeoutExpired, OSError):  # the process hangs or can't be started
        return False
