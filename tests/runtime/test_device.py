"""Devices by name, and machines without them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import pytest

from mlc_serve.errors import DeviceError
from mlc_serve.host.processes import running
from mlc_serve.runtime import device
from mlc_serve.runtime.device import DeviceName, find_device

FOUND = "import sys; sys.exit(0)"
ABSENT = "import sys; sys.exit(1)"
CRASHES = "import os; os.abort()"
HANGS = "import threading; threading.Event().wait()"


@pytest.fixture
def built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TVM that can drive CUDA and the CPU."""
    monkeypatch.setattr(device, "_is_built_in", lambda kind: kind in {"cuda", "cpu"})


@pytest.mark.parametrize("probe", [ABSENT, CRASHES])
@pytest.mark.usefixtures("built_in")
def test_auto_is_the_cpu_without_a_gpu(monkeypatch: pytest.MonkeyPatch, probe: str) -> None:
    """If the driver finds no GPU, or crashes the process that asks it, `auto` means the CPU."""
    monkeypatch.setattr(device, "_PROBE", probe)
    assert find_device("auto") == DeviceName("cpu")


@pytest.mark.usefixtures("built_in")
def test_auto_prefers_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first kind of GPU that the machine has is chosen before the CPU."""
    monkeypatch.setattr(device, "_PROBE", FOUND)
    assert find_device("auto") == DeviceName("cuda")


@pytest.mark.usefixtures("built_in")
def test_a_driver_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the driver does not answer in time, its process is ended, and `auto` means the CPU."""
    probes: list[Popen[bytes]] = []

    @contextmanager
    def noted(command: Sequence[str], env: Mapping[str, str]) -> Iterator[Popen[bytes]]:
        with running(command, env) as probe:
            probes.append(probe)
            yield probe

    monkeypatch.setattr(device, "running", noted)
    monkeypatch.setattr(device, "_PROBE", HANGS)
    monkeypatch.setattr(device, "_PROBE_SECONDS", 0.01)
    assert find_device("auto") == DeviceName("cpu")
    (probe,) = probes
    assert probe.returncode is not None


@pytest.mark.usefixtures("built_in")
def test_a_python_that_can_not_be_started_finds_no_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a Python to start, as in a program that embeds Python, `auto` means the CPU."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert find_device("auto") == DeviceName("cpu")


@pytest.mark.usefixtures("built_in")
def test_the_real_probe_asks_the_driver() -> None:
    """Asking for the thousandth GPU, which no machine has, is an error and not a crash."""
    with pytest.raises(DeviceError, match=r"^device 'cuda:999': there is no such device on this machine$"):
        find_device("cuda:999")


@pytest.mark.parametrize("wanted", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", "cpu:0:1"])
def test_a_name_that_is_none_is_refused(wanted: str) -> None:
    """The error lists the names that are allowed."""
    with pytest.raises(DeviceError, match=f"device '{wanted}' is not auto, cuda, rocm, .*cpu"):
        find_device(wanted)


@pytest.mark.parametrize("kind", ["rocm", "metal", "vulkan", "opencl"])
@pytest.mark.usefixtures("built_in")
def test_a_device_that_this_tvm_lacks_is_refused(kind: str) -> None:
    """The error says which build of TVM the device needs."""
    with pytest.raises(DeviceError, match=f"can't drive {kind} devices; they need a TVM built with USE_"):
        find_device(kind)


def test_there_is_one_cpu() -> None:
    """The device `cpu` can be opened, and there is no second one."""
    assert find_device("cpu").open().exist
    assert str(find_device("cpu:0")) == "cpu"
    with pytest.raises(DeviceError, match="'cpu:1': there is no such device"):
        find_device("cpu:1")
