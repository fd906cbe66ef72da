"""Targets by kind of device."""

from __future__ import annotations

import pytest
import tvm

from mlc_serve.compiler.target import target_for
from mlc_serve.errors import CompileError


def test_the_cpu_is_this_machine_s() -> None:
    """The target for `cpu` is this machine's CPU unless another architecture is named."""
    assert str(target_for("cpu").attrs["mcpu"]) == tvm.target.codegen.llvm_get_system_cpu()
    assert str(target_for("cpu", "x86-64").attrs["mcpu"]) == "x86-64"


def test_a_gpu_s_architecture_can_be_named() -> None:
    """With a named architecture no device is needed, and the host's part is for a CPU."""
    target = target_for("cuda", "sm_90a")
    assert (target.kind.name, str(target.attrs["arch"]), target.host.kind.name) == ("cuda", "sm_90a", "llvm")


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_of_several_gpus_the_one_that_is_named_is_asked(
    monkeypatch: pytest.MonkeyPatch, device: str, index: int
) -> None:
    """The device with the given index is asked, as several may be of different architectures."""
    asked: list[tuple[str, int]] = []

    class Gone:
        exist = False

    def note(kind: str, number: int) -> Gone:
        asked.append((kind, number))
        return Gone()

    monkeypatch.setattr(tvm, "device", note)
    assert target_for(device).kind.name == "cuda"
    assert asked == [("cuda", index)]


def test_an_index_is_a_number() -> None:
    """An index that is no number is refused, and the error has the name."""
    with pytest.raises(CompileError, match="no target for 'cuda:x'"):
        target_for("cuda:x")


def test_an_unknown_kind_is_refused() -> None:
    """The error has the name of the unknown kind."""
    with pytest.raises(CompileError, match="no target for 'tpu'"):
        target_for("tpu")
