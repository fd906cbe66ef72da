"""Normalization of the heads of queries and keys, and the cast to what attention reads."""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.rotary import copy_head_macro
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.row import Row
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.primitives.thread_cost import VALUES_PER_WAKING
from mlc_serve.models.parts.head_norm import HeadNorm


def head_norm(
    num_q_heads: int, num_kv_heads: int, head_dim: int, spec: HeadNorm, dtype: str
) -> tirx.PrimFunc:
    """QKV `(1, s, hq + 2 hkv, d)`, and the weights and the biases of queries and of keys, of the shapes that
    `spec` says, all float32 -> the same shape as QKV, of `dtype`: queries and keys normalised, and the values
    as they are. Without a bias, those operands are not read.
    """
    num_heads = num_q_heads + 2 * num_kv_heads
    q_shape, k_shape = spec.shape(num_q_heads, head_dim), spec.shape(num_kv_heads, head_dim)
    norm_row = _norm_row(num_q_heads, num_kv_heads, head_dim, spec, dtype)

    @T.prim_func(s_tir=True, private=True)
    def norm(
        qkv: T.handle,
        q_weight: T.handle,
        k_weight: T.handle,
        q_bias: T.handle,
        k_bias: T.handle,
        y: T.handle,
    ):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(qkv, (1, num_rows, num_heads, head_dim), "float32")
        QW = T.match_buffer(q_weight, q_shape, "float32")
        KW = T.match_buffer(k_weight, k_shape, "float32")
        QB = T.match_buffer(q_bias, q_shape, "float32")
        KB = T.match_buffer(k_bias, k_shape, "float32")
        Y = T.match_buffer(y, (1, num_rows, num_heads, head_dim), dtype)
        with T.sblock("root"):
            if num_rows * (num_heads * head_dim) <= VALUES_PER_WAKING:
                for row in T.serial(num_rows):
                    norm_row(X, _Learned(QW, QB), _Learned(KW, KB), Y, row)
            else:
                for row in T.parallel(num_rows):
                    norm_row(X, _Learned(QW, QB), _Learned(KW, KB), Y, row)

    return norm


class _Learned(NamedTuple):
    """The buffers of a norm's weight and bias."""

    weight: Any
    bias: Any


def _norm_row(num_q_heads: int, num_kv_heads: int, head_dim: int, spec: HeadNorm, dtype: str) -> Any:
    """The macro `norm_row(X, queries, keys, Y, row)`: all heads of one token."""
    norm_queries = _norm_heads_macro(num_q_heads, head_dim, spec, dtype)
    norm_keys = _norm_heads_macro(num_kv_heads, head_dim, spec, dtype)
    copy = copy_head_macro(head_dim, dtype)

    @T.macro
    def norm_row(X, queries, keys, Y, row):
        with T.sblock("row"):
            T.reads()
            T.writes()
            norm_queries(X, queries, Y, row, 0)
            norm_keys(X, keys, Y, row, num_q_heads)
            for head in T.serial(num_kv_heads):
                copy(
                    Row(X, (0, row, num_q_heads + num_kv_heads + head)),
                    Row(Y, (0, row, num_q_heads + num_kv_heads + head)),
                )

    return norm_row


def _norm_heads_macro(num_heads: int, head_dim: int, spec: HeadNorm, dtype: str) -> Any:
    """The macro `norm_heads(X, learned, Y, row, first)`: the heads `first` to `first + num_heads`. Those that
    are normalised as one row are a group.
    """
    group = num_heads if spec.scope == "all_heads" else 1
    step = lanes(head_dim)
    measure = _measure_macro(group, head_dim, spec)
    normalized = _normalized(head_dim, spec)

    @T.macro
    def norm_heads(X, learned, Y, row, first):
        for start in T.serial(num_heads // group):
            with T.sblock("group"):
                T.reads()
                T.writes()
                mean = local((1,))
                scale = local((1,))
                measure(X, row, first + start * group, mean, scale)
                for member in T.serial(group):
                    for i in T.serial(head_dim // step):
                        for lane in T.vectorized(step):
                            Y[0, row, first + start * group + member, i * step + lane] = T.Cast(
                                dtype,
                                normalized(
                                    X[0, row, first + start * group + member, i * step + lane],
                                    mean,
                                    scale,
                                    learned,
                                    start * group + member,
                                    i * step + lane,
                                ),
                            )

    return norm_heads


def _normalized(head_dim: int, spec: HeadNorm) -> Any:
    """The function that returns value `i` of head `head`, normalised, scaled and shifted."""

    def learned_at(buffer: Any, head: Any, i: Any) -> Any:
        match spec.scope:
            case "head":
                return buffer[i]
            case "each_head":
                return buffer[head, i]
        return buffer[head * head_dim + i]

    def normalized(value: Any, mean: Any, scale: Any, learned: _Learned, head: Any, i: Any) -> Any:
        scaled = _centred(value, mean, spec) * scale[0] * learned_at(learned.weight, head, i)
        return scaled + learned_at(learned.bias, head, i) if spec.bias else scaled

    return normalized


def _centred(value: Any, mean: Any, spec: HeadNorm) -> Any:
    return value - mean[0] if spec.kind == "layer" else value


def _measure_macro(group: int, head_dim: int, spec: HeadNorm) -> Any:
    """The macro `measure(X, row, first, mean, scale)`: of `group` heads from `first` on, the mean if the norm
    subtracts it, and 1 / sqrt(mean of the squares + epsilon) of what is left.
    """
    add_up = _sum_macro(group, head_dim)
    count, epsilon = float(group * head_dim), spec.epsilon

    def itself(value: Any, _mean: Any) -> Any:
        return value

    def square(value: Any, mean: Any) -> Any:
        return _centred(value, mean, spec) * _centred(value, mean, spec)

    @T.macro
    def measure_mean(X, row, first, mean):
        add_up(X, row, first, mean, mean, itself)
        mean[0] = mean[0] / T.float32(count)

    @T.macro
    def measure_nothing(X, row, first, mean):
        T.evaluate(0)

    set_mean = measure_mean if spec.kind == "layer" else measure_nothing

    @T.macro
    def measure(X, row, first, mean, scale):
        set_mean(X, row, first, mean)
        add_up(X, row, first, mean, scale, square)
        scale[0] = T.float32(1) / T.sqrt(scale[0] / T.float32(count) + T.float32(epsilon))

    return measure


def _sum_macro(group: int, head_dim: int) -> Any:
    """The macro `add_up(X, row, first, mean, total, of)`: total[0] is the sum of of(x, mean) over all values
    x of `group` heads from `first` on.
    """
    step = lanes(head_dim)

    @T.macro
    def add_up(X, row, first, mean, total, of):
        sums = local((step,))
        for lane in T.vectorized(step):
            sums[lane] = T.float32(0)
        for member in T.serial(group):
            for i in T.serial(head_dim // step):
                for lane in T.vectorized(step):
                    sums[lane] = sums[lane] + of(X[0, row, first + member, i * step + lane], mean)
        total[0] = T.float32(0)
        for lane in T.unroll(step):
            total[0] = total[0] + sums[lane]

    return add_up
