"""Attention of one new token of each sequence over the pages of that sequence."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.attention.few_rows import FewRows
from mlc_serve.compiler.kernels.cpu.attention.heads import Heads, by_head
from mlc_serve.compiler.kernels.cpu.attention.page_table import match_page_table
from mlc_serve.compiler.kernels.cpu.attention.pages import match_pages
from mlc_serve.compiler.kernels.cpu.attention.row_attention import RowTensors, row_attention_macro
from mlc_serve.compiler.kernels.cpu.attention.scores import Scores
from mlc_serve.compiler.kernels.cpu.attention.visible import Visible
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit


def decode_attention(
    heads: Heads, scores: Scores, visible: Visible, dtype: str, unit: FloatUnit
) -> tirx.PrimFunc:
    """Rotated Q `(b, hq, d)`, the pages and each sequence's page table, and the score of each query head's
    sink `(hq,)` -> `(1, b, hq dv)`.

    Q, pages and output are of `dtype`, sinks are float32. The keys of the new tokens are in the pages. If
    there are anchors, Q is `(b, 2 hq, d)`, with the copy for them.
    """
    attend_rows = row_attention_macro(heads, scores, visible, dtype, unit, 1)

    @T.prim_func(s_tir=True, private=True)
    def attention(
        q: T.handle,
        pages: T.handle,
        first_pages: T.handle,
        listed: T.handle,
        lengths: T.handle,
        sinks: T.handle,
        out: T.handle,
    ):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "op_pattern": 8})
        batch = T.int32()
        num_pages = T.int64()
        Q = T.match_buffer(q, (batch, heads.num_q * visible.copies, heads.dim), dtype)
        P = match_pages(pages, num_pages, heads, dtype)
        table = T.meta_var(match_page_table(first_pages, listed, lengths, visible))
        S = T.match_buffer(sinks, (heads.num_q,), "float32")
        whole = T.match_buffer(out, (1, batch, heads.num_q * heads.value_dim), dtype)
        O = by_head(whole, heads)
        attend_rows(RowTensors(Q, P, S, O), table, FewRows(1), batch)

    return attention
