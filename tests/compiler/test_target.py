"""Targets by kind of device."""

from __future__ import annotations

import pytest
import tvm

from mlc_serve.compiler.target import target_for
from mlc_serve.errors import CompileError


def test_the_cpu_is_this_machine_s() -> None:
    """Unless another architecture is named."""
    assert str(target_for("cpu").attrs["mcpu"]) == tvm.target.codegen.llvm_get_system_cpu()
    assert str(target_for("cpu", "x86-64").attrs["mcpu"]) == "x86-64"


def test_a_gpu_s_architecture_can_be_named() -> None:
    """Compiling needs no device, and the host's part is for a CPU."""
    target = target_for("cuda", "sm_90a")
    assert (target.kind.name, str(target.attrs["arch"]), target.host.kind.name) == ("cuda", "sm_90a", "llvm")


def test_an_unknown_kind_is_refused() -> None:
    """Its name is in the error."""
    with pytest.raises(CompileError, match="no target for 'tpu'"):
        target_for("tpu")
