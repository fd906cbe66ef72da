"""The recurrence of RWKV-6 (Peng et al., 2024, "Eagle and Finch").

A head's state is a matrix S of keys by values. With the token's receptance r, key k, value v and decay w, and
the head's bonus u for the present token:

    out = r (S + diag(u) k v)        S = diag(w) S + k v        w = exp(-exp(base + change))

A task goes through the tokens of one sequence for 16 values of a head, whose part of S stays in the L1 cache.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.exponential import exp2
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local

_LOG2_E = math.log2(math.e)


class _Operands(NamedTuple):
    """Buffers; `state` is read and written in place."""

    r: Any
    k: Any
    v: Any
    change: Any
    base: Any
    bonus: Any
    y: Any
    state: Any


class _Place(NamedTuple):
    """What a task computes: of sequence b, the values of a head from `part` on."""

    b: Any
    head: Any
    part: Any


def wkv6(num_heads: int, head_dim: int) -> tirx.PrimFunc:
    """R, K, V and the change of the decay `(1, n, width)`, the decay's base `(1, 1, width)`, the bonus
    `(num_heads, head_dim)`, the states `(b, num_heads, head_dim, head_dim)`
    -> `(1, n, width)` and the new states. All are float32; each of the b sequences has n / b rows.
    """
    width, step = num_heads * head_dim, lanes(head_dim)
    num_parts = head_dim // step
    go = _task_macro(head_dim)

    @T.prim_func(s_tir=True, private=True)
    def recurrence(
        r: T.handle,
        k: T.handle,
        v: T.handle,
        change: T.handle,
        base: T.handle,
        bonus: T.handle,
        state: T.handle,
        y: T.handle,
        new: T.handle,
    ):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows, batch = T.int64(), T.int64()
        R = T.match_buffer(r, (1, num_rows, width), "float32")
        K = T.match_buffer(k, (1, num_rows, width), "float32")
        V = T.match_buffer(v, (1, num_rows, width), "float32")
        D = T.match_buffer(change, (1, num_rows, width), "float32")
        B = T.match_buffer(base, (1, 1, width), "float32")
        U = T.match_buffer(bonus, (num_heads, head_dim), "float32")
        S = T.match_buffer(state, (batch, num_heads, head_dim, head_dim), "float32")
        Y = T.match_buffer(y, (1, num_rows, width), "float32")
        N = T.match_buffer(new, (batch, num_heads, head_dim, head_dim), "float32")
        with T.sblock("root"):
            for task in T.parallel(batch * (num_heads * num_parts)):
                with T.sblock("task"):
                    T.reads()
                    T.writes()
                    b = T.meta_var(task // (num_heads * num_parts))
                    head = T.meta_var(task // num_parts % num_heads)
                    part = T.meta_var(task % num_parts * step)
                    for i in T.serial(head_dim):
                        for lane in T.vectorized(step):
                            N[b, head, i, part + lane] = S[b, head, i, part + lane]
                    go(_Operands(R, K, V, D, B, U, Y, N), _Place(b, head, part), num_rows // batch)

    return recurrence


def _task_macro(head_dim: int) -> Any:
    """The macro `go(operands, place, length)`: all tokens of a sequence, for some values of a head."""
    step = lanes(head_dim)
    set_decay, compute = _decay_macro(head_dim), _token_macro(head_dim)

    @T.macro
    def go(operands, place, length):
        decay = local((head_dim,))
        total = local((step,))
        product = local((step,))
        for t in T.serial(length):
            set_decay(operands, place, place.b * length + t, decay)
            compute(operands, place, place.b * length + t, decay, total, product)

    return go


def _decay_macro(head_dim: int) -> Any:
    """The macro `set_decay(operands, place, row, decay)`: the decay w of a token, for each key."""
    step = lanes(head_dim)

    @T.macro
    def set_decay(operands, place, row, decay):
        first = T.meta_var(place.head * head_dim)
        for i in T.serial(head_dim // step):
            for lane in T.vectorized(step):
                decay[i * step + lane] = exp2(
                    exp2(
                        (
                            operands.base[0, 0, first + i * step + lane]
                            + operands.change[0, row, first + i * step + lane]
                        )
                        * T.float32(_LOG2_E)
                    )
                    * T.float32(-_LOG2_E)
                )

    return set_decay


def _token_macro(head_dim: int) -> Any:
    """The macro `compute(operands, place, row, decay, total, product)`: one token's result and new state."""
    step = lanes(head_dim)

    @T.macro
    def compute(operands, place, row, decay, total, product):
        first = T.meta_var(place.head * head_dim)
        state = T.meta_var(operands.state)
        for lane in T.vectorized(step):
            total[lane] = T.float32(0)
        for i in T.serial(head_dim):
            for lane in T.vectorized(step):
                product[lane] = operands.k[0, row, first + i] * operands.v[0, row, first + place.part + lane]
            for lane in T.vectorized(step):
                total[lane] = total[lane] + operands.r[0, row, first + i] * (
                    state[place.b, place.head, i, place.part + lane]
                    + operands.bonus[place.head, i] * product[lane]
                )
            for lane in T.vectorized(step):
                state[place.b, place.head, i, place.part + lane] = (
                    state[place.b, place.head, i, place.part + lane] * decay[i] + product[lane]
                )
        for lane in T.vectorized(step):
            operands.y[0, row, first + place.part + lane] = total[lane]

    return compute
