"""The attention kernels of the CPU alone: GB/s of keys and values in decode, GFLOP/s in prefill.

python -m benchmarks.attention [--dtype float16] [--heads 9,3,64] [--only decode]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tvm

from mlc_serve.compiler.kernels.cpu.attention.decode import decode_attention
from mlc_serve.compiler.kernels.cpu.attention.heads import Heads
from mlc_serve.compiler.kernels.cpu.attention.merge import merge_attention
from mlc_serve.compiler.kernels.cpu.attention.pages import PAGE_SIZE, append_pages
from mlc_serve.compiler.kernels.cpu.attention.prefill import paged_prefill_attention, ragged_prefill_attention
from mlc_serve.compiler.kernels.cpu.attention.rotary import split_rotary
from mlc_serve.compiler.kernels.cpu.instructions import float_unit_for
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.pipeline import lowering_options
from mlc_serve.compiler.target import target_for
from mlc_serve.models.rope import Rope
from mlc_serve.runtime.threads import use_every_core

DECODES = [(1, 128), (1, 1024), (1, 8192), (8, 512), (32, 128), (32, 512), (32, 1024)]
PREFILLS = [(1, 128), (1, 512), (1, 2048), (4, 128), (32, 1)]
RESUMED = [(1, 128, 512), (1, 512, 2048), (32, 1, 512)]
# More than a processor's cache, so that layers are read from memory in turn, as in a model.
CACHE_BYTES = 256 << 20
SECONDS = 0.3


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float16")
    parser.add_argument("--heads", default="9,3,64", help="query heads, KV heads, dimensions of a head")
    parser.add_argument("--only", choices=("decode", "prefill", "resumed", "rest"), default=None)
    options = parser.parse_args()
    use_every_core()
    num_q_heads, num_kv_heads, head_dim = (int(part) for part in options.heads.split(","))
    kernels = Kernels(num_q_heads, num_kv_heads, head_dim, options.dtype)
    measured = {"decode": decodes, "prefill": prefills, "resumed": resumed_prefills, "rest": others}
    for name, measure in measured.items():
        if options.only in (None, name):
            measure(kernels)


@dataclass
class Kernels:
    """The kernels for a shape, each compiled for this machine when it is first used."""

    num_q_heads: int
    num_kv_heads: int
    head_dim: int
    dtype: str

    @property
    def heads(self) -> Heads:
        """The heads that attention kernels are built for."""
        return Heads(self.num_q_heads, self.num_kv_heads, self.head_dim)

    @cached_property
    def decode(self) -> Any:
        return compiled(decode_attention(self.heads, self.dtype, self.unit))

    @cached_property
    def ragged_prefill(self) -> Any:
        return compiled(ragged_prefill_attention(self.heads, self.dtype, self.unit))

    @cached_property
    def paged_prefill(self) -> Any:
        return compiled(paged_prefill_attention(self.heads, self.dtype, self.unit))

    @property
    def unit(self) -> FloatUnit:
        """The vector unit with which this machine multiplies floats."""
        return float_unit_for(target_for("cpu"))

    @property
    def key_bytes(self) -> int:
        """Bytes of the keys and values of one position."""
        return 2 * self.num_kv_heads * self.head_dim * np.dtype(self.dtype).itemsize

    def random(self, *shape: int) -> Any:
        """A tensor of the kernels' type, N(0, 1)."""
        values = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        return tensor(values.astype(self.dtype))

    def results(self, num_rows: int) -> tuple[Any, Any]:
        """Buffers for the output of attention and its log2 weights."""
        output = tensor(np.zeros((num_rows, self.num_q_heads, self.head_dim), self.dtype))
        return output, tensor(np.zeros((num_rows, self.num_q_heads), np.float32))


class Pages:
    """The pages of a batch of sequences in as many layers as fill CACHE_BYTES, in random order."""

    def __init__(self, kernels: Kernels, batch: int, length: int) -> None:
        count = -(-length // PAGE_SIZE)
        total = batch * count
        num_layers = max(1, min(64, CACHE_BYTES // (total * PAGE_SIZE * kernels.key_bytes)))
        shape = (total, 2, kernels.num_kv_heads, PAGE_SIZE, kernels.head_dim)
        self.layers = [kernels.random(*shape) for _ in range(num_layers)]
        self.table = (
            tensor(np.arange(batch + 1, dtype=np.int32) * count),
            tensor(np.random.default_rng(0).permutation(total).astype(np.int32)),
            tensor(np.full(batch, (length - 1) % PAGE_SIZE + 1, np.int32)),
        )


def compiled(function: Any) -> Any:
    """Compile a kernel; the result is called with tensors."""
    module = tvm.IRModule({"kernel": function.with_attr("global_symbol", "kernel")})
    target = target_for("cpu")
    with tvm.transform.PassContext(config=lowering_options(target)):
        return tvm.compile(module, target=target)["kernel"]


def tensor(values: Any) -> Any:
    """Copy an array into a TVM tensor on the CPU."""
    return tvm.runtime.tensor(values, tvm.cpu())


def seconds(calls: Sequence[Callable[[], object]]) -> float:
    """The median duration of a call. The calls are made in turn for SECONDS, and each at least once."""
    durations: list[float] = []
    calls[0]()
    begin = time.perf_counter()
    while time.perf_counter() < begin + SECONDS or len(durations) < len(calls):
        call = calls[len(durations) % len(calls)]
        started = time.perf_counter()
        call()
        durations.append(time.perf_counter() - started)
    return float(np.median(durations))


def report(name: str, duration: float, rate: float, unit: str) -> None:
    """Print one measurement as a line."""
    print(f"{name:42} {duration * 1e6:10.1f} us {rate / 1e9:8.1f} {unit}")


def decodes(kernels: Kernels) -> None:
    """Measure decoding: one new token for each sequence."""
    for batch, length in DECODES:
        pages = Pages(kernels, batch, length)
        q, unused = kernels.random(batch, *kernels.heads[:3:2]), tensor(np.zeros(batch, np.int32))
        out = kernels.results(batch)
        numbers = (0, 1.0, 1e4, kernels.head_dim**-0.5)

        def call(layer: Any, *arguments: Any) -> Callable[[], object]:
            q, table, unused, out, numbers = arguments
            return lambda: kernels.decode(q, layer, *table, unused, unused, *out, *numbers)

        duration = seconds([call(layer, q, pages.table, unused, out, numbers) for layer in pages.layers])
        moved = batch * length * kernels.key_bytes
        report(f"decode, batch {batch}, context {length}", duration, moved / duration, "GB/s")


def prefills(kernels: Kernels) -> None:
    """Measure new tokens that attend to each other. Only products that the causal mask leaves are counted."""
    for batch, length in PREFILLS:
        rows = batch * length
        q, k, v = (
            kernels.random(rows, heads, kernels.head_dim)
            for heads in (kernels.num_q_heads, kernels.num_kv_heads, kernels.num_kv_heads)
        )
        first = tensor(np.arange(batch + 1, dtype=np.int32) * length)
        positions, starts = tensor(np.zeros(rows, np.int32)), tensor(np.zeros(batch, np.int32))
        numbers = (1, 0, 1.0, 1e4, kernels.head_dim**-0.5)
        arguments = (q, first, k, v, first, positions, starts, *kernels.results(rows), *numbers)
        duration = seconds([lambda arguments=arguments: kernels.ragged_prefill(*arguments)])  # type: ignore[misc]
        operations = 4 * kernels.head_dim * kernels.num_q_heads * batch * length * (length + 1) / 2
        report(f"prefill, batch {batch}, {length} tokens", duration, operations / duration, "GFLOP/s")


def resumed_prefills(kernels: Kernels) -> None:
    """Measure new tokens that attend to what their sequences already hold."""
    for batch, length, held in RESUMED:
        rows = batch * length
        pages = Pages(kernels, batch, held)
        q = kernels.random(rows, *kernels.heads[:3:2])
        first = tensor(np.arange(batch + 1, dtype=np.int32) * length)
        positions, starts = tensor(np.zeros(rows, np.int32)), tensor(np.zeros(batch, np.int32))
        numbers = (0, 0, 1.0, 1e4, kernels.head_dim**-0.5)
        out = kernels.results(rows)
        head, tail = (q, first), (*pages.table, starts, positions, *out, *numbers)

        def call(layer: Any, head: Any, tail: Any) -> Callable[[], object]:
            return lambda: kernels.paged_prefill(*head, layer, *tail)

        duration = seconds([call(layer, head, tail) for layer in pages.layers])
        operations = 4 * kernels.head_dim * kernels.num_q_heads * batch * length * held
        name = f"resumed prefill, batch {batch}, {length} after {held}"
        report(name, duration, operations / duration, "GFLOP/s")


def others(kernels: Kernels) -> None:
    """Measure the kernels around attention: rotation, appending to pages, merging."""
    (num_q, num_kv, head_dim), dtype = kernels.heads, kernels.dtype
    rotary = compiled(split_rotary(num_q, num_kv, head_dim, Rope(1e5), dtype))
    append = compiled(append_pages(num_kv, head_dim, dtype))
    merge = compiled(merge_attention(num_q, head_dim, dtype))
    for rows in (1, 32, 512):
        qkv, positions = (
            kernels.random(rows, num_q + 2 * num_kv, head_dim),
            tensor(np.arange(rows, dtype=np.int32)),
        )
        q, k, v = (kernels.random(rows, heads, head_dim) for heads in (num_q, num_kv, num_kv))
        pages = Pages(kernels, 1, 512).layers[0]
        moved = rows * (num_q + 2 * num_kv) * head_dim * np.dtype(dtype).itemsize * 2
        duration = seconds([lambda a=(qkv, positions, q, k, v, 1): rotary(*a)])  # type: ignore[misc]
        report(f"rotary, {rows} tokens", duration, moved / duration, "GB/s")
        duration = seconds([lambda a=(pages, k, v, positions): append(*a)])  # type: ignore[misc]
        report(f"append, {rows} tokens", duration, 2 * rows * kernels.key_bytes / duration, "GB/s")
        results = (*kernels.results(rows), *kernels.results(rows))
        duration = seconds([lambda a=results: merge(*a)])  # type: ignore[misc]
        report(f"merge, {rows} tokens", duration, 3 * q.numpy().nbytes / duration, "GB/s")


if __name__ == "__main__":
    main()
