"""The argument `state` of a function on the CPU: the pages of the KV cache, and where a pass finds and puts
keys and values. The server owns all of these tensors, and passes the same ones to every call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tvm.relax.frontend import nn

from mlc_serve.compiler.kernels.cpu.attention.heads import Heads
from mlc_serve.compiler.kernels.cpu.attention.pages import pages_shape
from mlc_serve.models.parts.attention import AttentionShape


class PassTables(NamedTuple):
    """Int32 tensors that describe a pass. All but the first may be longer than the pass needs.

    Sequence b has the rows first_rows[b] to before first_rows[b + 1], and the pages listed[first_pages[b]] to
    before listed[first_pages[b + 1]], which hold lengths[b] keys after the pass. Row i is at position
    positions[i] of its sequence, and its key and value go to slot slots[i].
    """

    num_sequences: nn.Tensor
    positions: nn.Tensor
    slots: nn.Tensor
    first_rows: nn.Tensor
    first_pages: nn.Tensor
    listed: nn.Tensor
    lengths: nn.Tensor


class PageState:
    """Implements models.layers.State. `pages` has the pages of each layer, as the last module that wrote to
    them has left them.
    """

    def __init__(self, argument: Sequence[nn.Tensor], *, one_token_each: bool) -> None:
        count = len(PassTables._fields)
        self.tables = PassTables(*argument[:count])
        self.pages = list(argument[count:])
        self.one_token_each = one_token_each
        self.recurrent: Any = None

    def positions(self, num_tokens: Any) -> nn.Tensor:  # noqa: ARG002  kernels know how many they read
        return self.tables.positions

    def returned(self, result: Any) -> Any:
        return result


def heads_of(shape: AttentionShape) -> Heads:
    """The heads that kernels are made for."""
    return Heads(shape.num_q_heads, shape.num_kv_heads, shape.head_dim, shape.latent)


def page_state_spec(shape: AttentionShape, dtype: str) -> tuple[nn.spec.Tensor, ...]:
    """The types of the argument."""
    lengths = PassTables(1, "max_rows", "max_rows", "num_bounds", "num_bounds", "max_pages", "max_sequences")
    tables = [nn.spec.Tensor([length], "int32") for length in lengths]
    pages = list(pages_shape("num_pages", heads_of(shape)))
    return (*tables, *(nn.spec.Tensor(pages, dtype) for _ in range(shape.num_layers)))
