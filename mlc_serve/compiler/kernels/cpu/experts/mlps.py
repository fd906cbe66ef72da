"""The MLPs of all experts as one kernel, which reads the weights of those only that any token is sent to.

Pairs of a token and an expert are sorted by expert, so the rows of an expert follow one another. Each of its
tiles is read once, for all of its rows. First all busy experts project into their inner values; a task is an
expert and a tile. Then they project out; a task is a tile of the result, to which it adds what all experts
contribute, always in their order. So a token has the same result in every batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.experts.arithmetic import Arithmetic, RowPart
from mlc_serve.compiler.kernels.cpu.experts.assignment import Assignment, assign_macro, gather_macro
from mlc_serve.compiler.kernels.cpu.experts.project_in import project_in_macro
from mlc_serve.compiler.kernels.cpu.experts.project_out import project_out_macro
from mlc_serve.models.parts.experts import Experts
from mlc_serve.quantization.packing import expert_columns

# Bytes of inner values, or of rows, per pass over the weights.
_PASS_BYTES = 1 << 25


class _Weights(NamedTuple):
    """The buffers of the weights; of a bias that does not exist, any buffer."""

    w_in: tuple[Any, ...]
    b_in: Any
    w_out: tuple[Any, ...]
    b_out: Any


def expert_mlps(experts: Experts, hidden: int, arithmetic: Arithmetic) -> tirx.PrimFunc:
    """X `(1, s, H)` float32, chosen experts `(s, k)` int32 and shares `(s, k)` float32; for gate and up, and
    then for down, one or two parameters of a weight in a layout with `-experts`, and a bias `(E * N,)`
    float32; and a residual `(1, s, H)` float32 -> the residual plus the shares of the results.

    Tiles of gate and up alternate. What is not read, a second parameter or a bias, may be any tensor.
    """
    columns_in, columns_out = expert_columns(2 * experts.inner, 2), expert_columns(hidden, 1)
    parts_in = arithmetic.weight_of(experts.num_experts * columns_in, hidden)
    parts_out = arithmetic.weight_of(experts.num_experts * columns_out, experts.inner)
    body = _body_macro(experts, hidden, arithmetic)
    num_experts, num_active, has_bias = experts.num_experts, experts.num_active, experts.bias
    num_parts = len(parts_in)

    @T.prim_func(s_tir=True, private=True)
    def mlps(
        x: T.handle,
        ids: T.handle,
        shares: T.handle,
        w_in: T.handle,
        v_in: T.handle,
        b_in: T.handle,
        w_out: T.handle,
        v_out: T.handle,
        b_out: T.handle,
        r: T.handle,
        y: T.handle,
    ):
        T.func_attr({"tirx.noalias": True, "op_pattern": 8})
        num_rows = T.int64()
        X = T.match_buffer(x, (1, num_rows, hidden), "float32")
        I = T.match_buffer(ids, (num_rows, num_active), "int32")
        S = T.match_buffer(shares, (num_rows, num_active), "float32")
        W1 = T.match_buffer(w_in, parts_in[0].shape, parts_in[0].dtype)
        W2 = T.match_buffer(w_out, parts_out[0].shape, parts_out[0].dtype)
        R = T.match_buffer(r, (1, num_rows, hidden), "float32")
        Y = T.match_buffer(y, (1, num_rows, hidden), "float32")
        if num_parts == 2:
            V1 = T.match_buffer(v_in, parts_in[1].shape, parts_in[1].dtype)
            V2 = T.match_buffer(v_out, parts_out[1].shape, parts_out[1].dtype)
        if has_bias:
            B1 = T.match_buffer(b_in, (num_experts * 2 * experts.inner,), "float32")
            B2 = T.match_buffer(b_out, (num_experts * hidden,), "float32")
        with T.sblock("root"):
            T.attr(T.int32(0), "pragma_import_llvm", arithmetic.definitions)
            weights = T.meta_var(
                _Weights(
                    (W1, V1) if num_parts == 2 else (W1,),
                    B1 if has_bias else X,
                    (W2, V2) if num_parts == 2 else (W2,),
                    B2 if has_bias else X,
                )
            )
            body(X, (I, S), weights, R, Y, num_rows)

    return mlps


def _body_macro(experts: Experts, hidden: int, arithmetic: Arithmetic) -> Any:
    """The macro for everything that the kernel does, with its own memory."""
    inner, num_active = experts.inner, experts.num_active
    pass_tokens = max(_PASS_BYTES // (4 * num_active * max(inner, hidden)), 1)
    assign = assign_macro(experts)
    project_in = project_in_macro(experts, hidden, arithmetic)
    project_out = project_out_macro(experts, hidden, arithmetic)
    round_in, round_out = arithmetic.round_macro(hidden), arithmetic.round_macro(inner)
    rows_in, rows_out = arithmetic.rows_of(hidden), arithmetic.rows_of(inner)
    pair_rows_in = rows_in or [RowPart(hidden, "float32")]
    rounds_in, rounds_out = bool(rows_in), bool(rows_out)
    gather = gather_macro([row.width for row in pair_rows_in])

    @T.macro
    def one_pass(rows, weights, scratch, R, Y, choices, start, count):
        pairs, pair_rows, inner_values, inner_rows = scratch
        assign(choices[0], choices[1], pairs, start, count)
        gather(rows, pairs.tokens, pair_rows, count * num_active)
        project_in(pair_rows, weights.w_in, weights.b_in, pairs, inner_values, count * num_active)
        if rounds_out:
            round_out(inner_values, inner_rows, count * num_active)
        project_out(inner_rows, weights.w_out, weights.b_out, pairs, R, Y, start, count)

    @T.macro
    def body(X, choices, weights, R, Y, num_rows):
        num_pairs = T.meta_var(T.min(num_rows, T.int64(pass_tokens)) * num_active)
        rows = T.meta_var(_allocate(rows_in, num_rows) or (X,))
        pairs = T.meta_var(Assignment.allocate(experts.num_experts, num_pairs))
        pair_rows = T.meta_var(_allocate(pair_rows_in, num_pairs))
        inner_values = T.sblock_alloc_buffer((1, num_pairs, inner), "float32")
        inner_rows = T.meta_var(_allocate(rows_out, num_pairs) or (inner_values,))
        if rounds_in:
            round_in(X, rows, num_rows)
        for part in T.serial((num_rows + (pass_tokens - 1)) // pass_tokens):
            one_pass(
                rows,
                weights,
                (pairs, pair_rows, inner_values, inner_rows),
                R,
                Y,
                choices,
                part * pass_tokens,
                T.min(num_rows - part * pass_tokens, T.int64(pass_tokens)),
            )

    return body


def _allocate(rows: list[RowPart], num_rows: Any) -> tuple[Any, ...]:
    """Buffers of the TIR block that is being parsed."""
    return tuple(T.sblock_alloc_buffer((1, num_rows, row.width), row.dtype) for row in rows)
