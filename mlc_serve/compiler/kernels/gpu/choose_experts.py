"""Chooses the experts of each token, with a thread for each row."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.experts.routing import choose_macro
from mlc_serve.models.parts.experts import Experts

_THREADS = 64  # of a block


def choose_experts(experts: Experts) -> tirx.PrimFunc:
    """The same as `kernels.cpu.experts.routing.choose_experts`."""
    num_experts, num_active = experts.num_experts, experts.num_active
    reads_correction = experts.routing.correction
    choose = choose_macro(experts)

    @T.prim_func(s_tir=True, private=True)
    def routing(logits: T.handle, c: T.handle, ids: T.handle, shares: T.handle):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "op_pattern": 8})
        num_rows = T.int64()
        L = T.match_buffer(logits, (1, num_rows, num_experts), "float32")
        I = T.match_buffer(ids, (num_rows, num_active), "int32")
        S = T.match_buffer(shares, (num_rows, num_active), "float32")
        if reads_correction:
            C = T.match_buffer(c, (num_experts,), "float32")
        for block in T.thread_binding((num_rows + (_THREADS - 1)) // _THREADS, thread="blockIdx.x"):
            for thread in T.thread_binding(_THREADS, thread="threadIdx.x"):
                with T.sblock("thread"):
                    T.reads()
                    T.writes()
                    if block * _THREADS + thread < num_rows:
                        choose(L, C if reads_correction else L, I, S, block * _THREADS + thread)

    return routing
