"""The gated delta rule (Yang et al., 2024, "Gated Delta Networks").

A head's state is a matrix S of keys by values. With the token's query q and key k, both of length one, its
value v, decay and strength:

    S = decay * S       S = S + k (strength * (v - k S))       out = q S / sqrt(keys)
    decay = exp(-exp(A) * softplus(a + bias))                   strength = sigmoid(b)

A task goes through the tokens of one sequence for 16 values of a head, whose part of S stays in the L1 cache.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.exponential import exp2, sigmoid
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.models.parts.gated_delta import DeltaHeads

_LOG2_E = math.log2(math.e)
_EPSILON = 1e-6  # of the lengths of queries and keys


class _Operands(NamedTuple):
    qkv: Any  # (1, n, heads.qkv_width)
    ba: Any  # (1, n, 2 * num_v_heads)
    log_decay: Any  # (num_v_heads,)
    bias: Any  # (num_v_heads,)
    y: Any  # (1, n, heads.v_width)
    state: Any  # (b, num_v_heads, key_dim, value_dim), which is updated


class _Place(NamedTuple):
    b: Any  # the sequence
    head: Any  # of values
    first: Any  # of the head's values


class _Buffers(NamedTuple):
    factors: Any  # of the query and the key, the decay and the strength
    squares: Any  # of a vector of a query or key
    memory: Any  # what the state has for the key, then the change
    total: Any  # the result


def gated_delta(heads: DeltaHeads) -> tirx.PrimFunc:
    """Queries, keys and values side by side `(1, n, qkv_width)`; b and a side by side
    `(1, n, 2 * num_v_heads)`; A and the bias `(num_v_heads,)`; the states
    `(b, num_v_heads, key_dim, value_dim)`
    -> `(1, n, v_width)` and the new states. All are float32; each of the b sequences has n / b rows.
    """
    step = lanes(heads.value_dim)
    num_parts, shape = heads.value_dim // step, (heads.num_v_heads, heads.key_dim, heads.value_dim)
    num_v, go = heads.num_v_heads, _task_macro(heads)

    @T.prim_func(s_tir=True, private=True)
    def delta(
        qkv: T.handle,
        ba: T.handle,
        log_decay: T.handle,
        bias: T.handle,
        state: T.handle,
        y: T.handle,
        new: T.handle,
    ):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows, batch = T.int64(), T.int64()
        X = T.match_buffer(qkv, (1, num_rows, heads.qkv_width), "float32")
        G = T.match_buffer(ba, (1, num_rows, 2 * num_v), "float32")
        A = T.match_buffer(log_decay, (num_v,), "float32")
        B = T.match_buffer(bias, (num_v,), "float32")
        S = T.match_buffer(state, (batch, *shape), "float32")
        Y = T.match_buffer(y, (1, num_rows, heads.v_width), "float32")
        N = T.match_buffer(new, (batch, *shape), "float32")
        with T.sblock("root"):
            for task in T.parallel(batch * (num_v * num_parts)):
                with T.sblock("task"):
                    T.reads()
                    T.writes()
                    b = T.meta_var(task // (num_v * num_parts))
                    head = T.meta_var(task // num_parts % num_v)
                    first = T.meta_var(task % num_parts * step)
                    for i in T.serial(heads.key_dim):
                        for lane in T.vectorized(step):
                            N[b, head, i, first + lane] = S[b, head, i, first + lane]
                    go(_Operands(X, G, A, B, Y, N), _Place(b, head, first), num_rows // batch)

    return delta


def _task_macro(heads: DeltaHeads) -> Any:
    """The macro `go(operands, place, length)`: all tokens of a sequence, for some values of a head."""
    step, key_step = lanes(heads.value_dim), lanes(heads.key_dim)
    set_factors, recall, learn = _factors_macro(heads), _recall_macro(heads), _learn_macro(heads)

    @T.macro
    def go(operands, place, length):
        factors = local((4,))
        squares = local((key_step,))
        memory = local((step,))
        total = local((step,))
        for t in T.serial(length):
            set_factors(operands, place, place.b * length + t, _Buffers(factors, squares, memory, total))
            recall(operands, place, place.b * length + t, _Buffers(factors, squares, memory, total))
            learn(operands, place, place.b * length + t, _Buffers(factors, squares, memory, total))

    return go


def _factors_macro(heads: DeltaHeads) -> Any:
    """The macro `set_factors(operands, place, row, buffers)`."""
    step = lanes(heads.key_dim)

    @T.macro
    def inverse_length(operands, row, first, squares, factor, scale):
        for lane in T.vectorized(step):
            squares[lane] = T.float32(0)
        for i in T.serial(heads.key_dim // step):
            for lane in T.vectorized(step):
                squares[lane] = (
                    squares[lane]
                    + operands.qkv[0, row, first + i * step + lane]
                    * (operands.qkv[0, row, first + i * step + lane])
                )
        factor[scale] = T.float32(_EPSILON)
        for lane in T.unroll(step):
            factor[scale] = factor[scale] + squares[lane]
        factor[scale] = T.float32(1) / T.sqrt(factor[scale])

    @T.macro
    def set_factors(operands, place, row, buffers):
        inverse_length(operands, row, _query(heads, place, 0), buffers.squares, buffers.factors, 0)
        inverse_length(operands, row, _key(heads, place, 0), buffers.squares, buffers.factors, 1)
        buffers.factors[0] = buffers.factors[0] * T.float32(heads.key_dim**-0.5)
        buffers.factors[2] = _decay(
            operands.log_decay[place.head],
            operands.ba[0, row, heads.num_v_heads + place.head] + operands.bias[place.head],
        )
        buffers.factors[3] = sigmoid(operands.ba[0, row, place.head])

    return set_factors


def _recall_macro(heads: DeltaHeads) -> Any:
    """The macro `recall(operands, place, row, buffers)`: let the state decay, and set memory to the change of
    what it has for the key.
    """
    step = lanes(heads.value_dim)

    @T.macro
    def recall(operands, place, row, buffers):
        for lane in T.vectorized(step):
            buffers.memory[lane] = T.float32(0)
        for i in T.serial(heads.key_dim):
            for lane in T.vectorized(step):
                operands.state[place.b, place.head, i, place.first + lane] = (
                    operands.state[place.b, place.head, i, place.first + lane] * buffers.factors[2]
                )
            for lane in T.vectorized(step):
                buffers.memory[lane] = (
                    buffers.memory[lane]
                    + operands.state[place.b, place.head, i, place.first + lane]
                    * operands.qkv[0, row, _key(heads, place, i)]
                )
        for lane in T.vectorized(step):
            buffers.memory[lane] = buffers.factors[3] * (
                operands.qkv[0, row, _value(heads, place, lane)] - buffers.memory[lane] * buffers.factors[1]
            )

    return recall


def _learn_macro(heads: DeltaHeads) -> Any:
    """The macro `learn(operands, place, row, buffers)`: add the change to the state, and read the result."""
    step = lanes(heads.value_dim)

    @T.macro
    def learn(operands, place, row, buffers):
        for lane in T.vectorized(step):
            buffers.total[lane] = T.float32(0)
        for i in T.serial(heads.key_dim):
            for lane in T.vectorized(step):
                operands.state[place.b, place.head, i, place.first + lane] = (
                    operands.state[place.b, place.head, i, place.first + lane]
                    + operands.qkv[0, row, _key(heads, place, i)] * buffers.factors[1] * buffers.memory[lane]
                )
            for lane in T.vectorized(step):
                buffers.total[lane] = (
                    buffers.total[lane]
                    + operands.state[place.b, place.head, i, place.first + lane]
                    * operands.qkv[0, row, _query(heads, place, i)]
                )
        for lane in T.vectorized(step):
            operands.y[0, row, place.head * heads.value_dim + place.first + lane] = (
                buffers.total[lane] * buffers.factors[0]
            )

    return learn


def _query(heads: DeltaHeads, place: _Place, i: Any) -> Any:
    """The column of value i of the query. A head of keys serves several heads of values."""
    return place.head // (heads.num_v_heads // heads.num_k_heads) * heads.key_dim + i


def _key(heads: DeltaHeads, place: _Place, i: Any) -> Any:
    return heads.num_k_heads * heads.key_dim + _query(heads, place, i)


def _value(heads: DeltaHeads, place: _Place, i: Any) -> Any:
    return 2 * heads.num_k_heads * heads.key_dim + place.head * heads.value_dim + place.first + i


def _decay(log_decay: Any, x: Any) -> Any:
    """exp(-exp(log_decay) * softplus(x)), where softplus is log(1 + exp(x))."""
    one, to_two = tirx.const(1.0, "float32"), tirx.const(_LOG2_E, "float32")
    size = tirx.max(x, tirx.const(0.0, "float32") - x)
    softplus = tirx.max(x, tirx.const(0.0, "float32")) + tirx.log(
        one + exp2(tirx.const(0.0, "float32") - size * to_two)
    )
    return exp2(tirx.const(0.0, "float32") - exp2(log_decay * to_two) * softplus * to_two)
