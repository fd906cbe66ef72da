"""TVM's passes from Relax to what its virtual machine runs, for a target."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax, tirx
from tvm.relax.backend.gpu_generic import dataflow_lower_passes, finalize_passes, library_dispatch_passes
from tvm.s_tir import Schedule
from tvm.s_tir import dlight as dl
from tvm.target import Target


class _PortableMatmul(dl.gpu.Matmul):
    """TVM's schedule for matrix products on GPUs of any kind.

    For Metal, TVM's rule first tries the matrix instructions of Apple's GPUs, and crashes if a product does
    not fit them. It does not try them if it is told that the GPU is of another kind.
    """

    def apply(self, func: tirx.PrimFunc, _target: Target, tunable: bool) -> Schedule | None:
        """Schedule one function. Returns None if it is not a matrix product."""
        return super().apply(func, Target({"kind": "webgpu"}), tunable)


def pipeline_for(target: Target) -> Any:
    """The passes, in the form that `tvm.compile` takes."""
    if target.kind.name == "metal":
        return _metal_pipeline(target)
    return relax.get_default_pipeline(target)


def lowering(target: Target) -> tvm.transform.PassContext:
    """The context in which kernels are compiled.

    On the CPU, two passes are left out. One lets buffers share memory: it would drop the annotation that
    keeps a kernel's local buffers on the stack, and so in registers. The other shrinks buffers to what is
    used of them: our kernels' buffers are as small already, and for a large kernel it takes three times as
    long as all other passes together.
    """
    if target.kind.name != "llvm":
        return tvm.transform.PassContext()
    return tvm.transform.PassContext(
        config={"tirx.disable_storage_rewrite": True}, disabled_pass=["s_tir.CompactBufferAllocation"]
    )


def _metal_pipeline(target: Target) -> Any:
    """TVM's passes for GPUs of any kind, with the portable schedule."""
    gpu = dl.gpu
    return tvm.transform.Sequential(
        [
            *library_dispatch_passes(target),
            relax.transform.LegalizeOps(),
            relax.transform.AnnotateTIROpPattern(),
            relax.transform.FoldConstant(),
            relax.transform.FuseOps(),
            relax.transform.FuseTIR(),
            dl.ApplyDefaultSchedule(
                _PortableMatmul(), gpu.GEMV(), gpu.Reduction(), gpu.GeneralReduction(), gpu.Fallback()
            ),
            *dataflow_lower_passes(target),
            *finalize_passes(target),
        ]
    )
