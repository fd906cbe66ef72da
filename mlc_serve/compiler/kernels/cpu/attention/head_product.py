"""Products of each head's row with a weight of the head's own.

The rows of a batch are first sorted by head, so that each tile of a head's weight is read once for all of
them. A task is a head and a few tiles.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.experts.arithmetic import Arithmetic, RowPart, WeightPart
from mlc_serve.compiler.kernels.cpu.linear.epilogue import Epilogue
from mlc_serve.compiler.kernels.cpu.linear.tiled_product import Tiling, all_rows_macro
from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.thread_cost import VALUES_PER_WAKING
from mlc_serve.quantization.packing import LANES, expert_columns, num_tiles

# Bytes of a head's rows per pass over the weights: half of an L2 cache.
_PASS_BYTES = 1 << 19


class HeadProduct(NamedTuple):
    """`num_heads` weights `(columns, depth)`. A head's row is the `depth` values from `first_in` on of what X
    has for it, and its product goes to the columns from `first_out` on of what Y has for it.
    """

    num_heads: int
    columns: int
    depth: int
    first_in: int = 0
    first_out: int = 0

    def weight_of(self, arithmetic: Arithmetic) -> list[WeightPart]:
        """The parameters of all heads' weights."""
        return arithmetic.weight_of(self.num_heads * expert_columns(self.columns, 1), self.depth)


class _Place(NamedTuple):
    """Which rows of Y the rows of a head belong to."""

    head: Any
    first_tile: Any  # of the head
    first_row: Any  # of the head
    first_token: Any


def head_product_macro(product: HeadProduct, arithmetic: Arithmetic, out_dtype: str) -> Any:
    """The macro `multiply(X, weights, Y, num_rows)` for X `(1, s, h, n)` of any type, and Y `(1, s, h, m)` of
    the type `out_dtype`, which may have more heads.
    """
    num_heads, depth = product.num_heads, product.depth
    pass_tokens = max(_PASS_BYTES // (4 * depth), 1)
    row_parts = arithmetic.rows_of(depth)
    is_rounded = bool(row_parts)
    round_rows, sort = arithmetic.round_macro(depth), _sort_macro(product)
    all_heads = _all_heads_macro(product, arithmetic, out_dtype)

    @T.macro
    def multiply(X, weights, Y, num_rows):
        most = T.meta_var(T.min(num_rows, T.int64(pass_tokens)) * num_heads)
        sorted_rows = T.sblock_alloc_buffer((1, most, depth), "float32")
        rows = T.meta_var(_allocate(row_parts, most) or (sorted_rows,))
        for part in T.serial((num_rows + (pass_tokens - 1)) // pass_tokens):
            start = T.meta_var(part * pass_tokens)
            count = T.meta_var(T.min(num_rows - part * pass_tokens, T.int64(pass_tokens)))
            sort(X, sorted_rows, start, count)
            if is_rounded:
                round_rows(sorted_rows, rows, count * num_heads)
            all_heads(rows, weights, Y, start, count)

    return multiply


def _allocate(rows: list[RowPart], num_rows: Any) -> tuple[Any, ...]:
    """Buffers of the TIR block that is being parsed."""
    return tuple(T.sblock_alloc_buffer((1, num_rows, row.width), row.dtype) for row in rows)


def _sort_macro(product: HeadProduct) -> Any:
    """The macro `sort(X, rows, start, count)`: the rows of `count` tokens from `start`, head after head."""
    num_heads, depth, first = product.num_heads, product.depth, product.first_in
    step = lanes(depth)

    @T.macro
    def sort_head(X, rows, start, count, head):
        for token, i in T.grid(count, depth // step):
            for lane in T.vectorized(step):
                rows[0, head * count + token, i * step + lane] = T.Cast(
                    "float32", X[0, start + token, head, first + i * step + lane]
                )

    @T.macro
    def sort(X, rows, start, count):
        if count * (num_heads * depth) <= VALUES_PER_WAKING:
            for head in T.serial(num_heads):
                sort_head(X, rows, start, count, head)
        else:
            for head in T.parallel(num_heads):
                sort_head(X, rows, start, count, head)

    return sort


def _all_heads_macro(product: HeadProduct, arithmetic: Arithmetic, out_dtype: str) -> Any:
    """The macro `all_heads(rows, weights, Y, start, count)`: the products of rows that `sort` has sorted."""
    columns, depth = expert_columns(product.columns, 1), product.depth
    tiling = Tiling.fit(columns, arithmetic.num_steps(depth), 4 * depth, Epilogue(), arithmetic.room)
    tiles, tiles_each = tiling.tiles, columns // LANES
    tasks_each = tiles_each // tiles
    store = _store_macro(product, tiles, out_dtype)
    all_rows = all_rows_macro(
        tiling, arithmetic.step_macro(depth, tiles), store, arithmetic.fetch_macro(tiles)
    )

    @T.macro
    def one_task(rows, weights, Y, start, count, head, tile):
        with T.sblock("task"):
            T.reads()
            T.writes()
            all_rows(
                arithmetic.operands(rows, weights),
                _Place(head, head * tiles_each, head * count, start),
                Y,
                head * count,
                count,
                head * tiles_each + tile,
                head * tiles_each + tile + tiles,
            )

    @T.macro
    def all_heads(rows, weights, Y, start, count):
        for task in T.parallel(T.int64(product.num_heads * tasks_each)):
            one_task(rows, weights, Y, start, count, task // tasks_each, task % tasks_each * tiles)

    return all_heads


def _store_macro(product: HeadProduct, tiles: int, out_dtype: str) -> Any:
    """The store of `all_rows_macro`. The last tile of a head may have fewer than 16 columns."""
    last_tile = num_tiles(product.columns) - 1
    last_width, first = product.columns - last_tile * LANES, product.first_out

    @T.macro
    def store_tile(totals, to, Y, token, tile, register):
        if last_width == LANES or tile < last_tile:
            for lane in T.vectorized(LANES):
                Y[0, token, to.head, first + tile * LANES + lane] = T.Cast(out_dtype, totals[register, lane])
        else:
            for lane in T.serial(last_width):
                Y[0, token, to.head, first + tile * LANES + lane] = T.Cast(out_dtype, totals[register, lane])

    @T.macro
    def store(totals, to, Y, row, tile, height):
        for i in T.unroll(height):
            for j in T.unroll(tiles):
                store_tile(
                    totals,
                    to,
                    Y,
                    row + i - to.first_row + to.first_token,
                    tile - to.first_tile + j,
                    i * tiles + j,
                )

    return store
