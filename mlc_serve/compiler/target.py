"""The TVM target of a device."""

from __future__ import annotations

import tvm
from tvm.target import Target

from mlc_serve.errors import CompileError


def target_for(device: str, arch: str | None = None) -> Target:
    """The target to compile for. `device` is a kind, or kind:index for one of several devices; `arch` is the
    architecture of the CPU or GPU, by default that of the device itself.

    Raises CompileError if TVM knows no such target, or can't tell its architecture.
    """
    kind, _, index = device.partition(":")
    try:
        return _target(kind, arch, int(index or 0))
    except (ValueError, RuntimeError) as error:
        raise CompileError(f"TVM has no target for {device!r}: {str(error).splitlines()[0]}") from error


def _target(kind: str, arch: str | None, index: int) -> Target:
    if kind == "cpu":
        return Target({"kind": "llvm", "mcpu": arch or tvm.target.codegen.llvm_get_system_cpu()})
    host = {"kind": "llvm"}
    if arch is not None:
        return Target({"kind": kind, "arch": arch, "host": host})
    device = tvm.device(kind, index)
    if device.exist:
        return Target.from_device(device)
    return Target({"kind": kind, "host": host})
