"""The attention kernels of the CPU alone: GB/s of keys and values in decode, GFLOP/s in prefill.

python -m benchmarks.attention [--dtype float16] [--heads 9,3,64] [--window 1024] [--only decode]
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

from mlc_serve.compiler.kernels.cpu.attention.append import append_tokens
from mlc_serve.compiler.kernels.cpu.attention.decode import decode_attention
from mlc_serve.compiler.kernels.cpu.attention.heads import Heads
from mlc_serve.compiler.kernels.cpu.attention.pages import PAGE_SIZE, pages_shape
from mlc_serve.compiler.kernels.cpu.attention.prefill import prefill_attention
from mlc_serve.compiler.kernels.cpu.attention.scores import MASKED, Scores
from mlc_serve.compiler.kernels.cpu.attention.visible import Visible
from mlc_serve.compiler.kernels.cpu.instructions import float_unit_for
from mlc_serve.compiler.kernels.cpu.primitives.float_unit import FloatUnit
from mlc_serve.compiler.pipeline import lowering
from mlc_serve.compiler.target import target_for
from mlc_serve.host.threads import use_every_core
from mlc_serve.models.rope import Rope

DECODES = [(1, 128), (1, 1024), (1, 8192), (8, 512), (32, 128), (32, 512), (32, 1024)]
PREFILLS = [(1, 128, 0), (1, 512, 0), (1, 2048, 0), (4, 128, 0), (1, 128, 512), (1, 512, 2048), (32, 1, 512)]
APPENDED = (1, 32, 512)
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
    parser.add_argument("--window", type=int, default=None, help="keys that a token sees")
    parser.add_argument("--only", choices=("decode", "prefill", "append"), default=None)
    options = parser.parse_args()
    use_every_core()
    num_q_heads, num_kv_heads, head_dim = (int(part) for part in options.heads.split(","))
    kernels = Kernels(Heads(num_q_heads, num_kv_heads, head_dim), options.window, options.dtype)
    measured = {"decode": decodes, "prefill": prefills, "append": appends}
    for name, measure in measured.items():
        if options.only in (None, name):
            measure(kernels)


@dataclass
class Kernels:
    """The kernels for a shape, each compiled for this machine when it is first used."""

    heads: Heads
    window: int | None
    dtype: str

    @cached_property
    def decode(self) -> Any:
        return compiled(decode_attention(*self.kind))

    @cached_property
    def prefill(self) -> Any:
        return compiled(prefill_attention(*self.kind))

    @cached_property
    def append(self) -> Any:
        return compiled(append_tokens(self.heads, Rope(1e5), self.dtype, Visible(self.window)))

    @property
    def kind(self) -> tuple[Heads, Scores, Visible, str, FloatUnit]:
        """What kernels of attention are made for, with the usual scores."""
        scores = Scores(self.heads.dim**-0.5)
        return self.heads, scores, Visible(self.window), self.dtype, self.unit

    @property
    def unit(self) -> FloatUnit:
        """The vector unit with which this machine multiplies floats."""
        return float_unit_for(target_for("cpu"))

    @property
    def key_bytes(self) -> int:
        """Bytes of the keys and values of one position."""
        return 2 * self.heads.num_kv * self.heads.dim * np.dtype(self.dtype).itemsize

    def random(self, *shape: int) -> Any:
        """A tensor of the kernels' type, N(0, 1)."""
        values = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        return tensor(values.astype(self.dtype))

    def queries(self, num_rows: int) -> Any:
        """Random queries."""
        return self.random(num_rows, self.heads.num_q, self.heads.dim)

    def results(self, num_rows: int) -> Any:
        """A buffer for the output of attention."""
        return tensor(np.zeros((1, num_rows, self.heads.num_q * self.heads.dim), self.dtype))

    @cached_property
    def sinks(self) -> Any:
        """No head has a sink."""
        return tensor(np.full(self.heads.num_q, MASKED, np.float32))

    def products(self, num_rows: int, num_keys: int) -> int:
        """The pairs of a query's row and a key that the row sees, if the rows are the last of the keys."""
        window = self.window or num_keys
        return sum(min(key + 1, window) for key in range(num_keys - num_rows, num_keys))


class Pages:
    """The pages of a batch of sequences in as many layers as fill CACHE_BYTES, in random order."""

    def __init__(self, kernels: Kernels, batch: int, length: int) -> None:
        count = -(-length // PAGE_SIZE)
        total = batch * count
        num_layers = max(1, min(64, CACHE_BYTES // (total * PAGE_SIZE * kernels.key_bytes)))
        shape = pages_shape(total, kernels.heads)
        self.layers = [kernels.random(*shape) for _ in range(num_layers)]
        self.table = (
            tensor(np.arange(batch + 1, dtype=np.int32) * count),
            tensor(np.random.default_rng(0).permutation(total).astype(np.int32)),
            tensor(np.full(batch, length, np.int32)),
        )


def compiled(function: Any) -> Any:
    """Compile a kernel; the result is called with tensors."""
    module = tvm.IRModule({"kernel": function.with_attr("global_symbol", "kernel")})
    target = target_for("cpu")
    with lowering(target):
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
    """Measure decoding: one new token for each sequence. Only keys in the window are counted."""
    for batch, length in DECODES:
        pages = Pages(kernels, batch, length)
        head, tail = kernels.queries(batch), (*pages.table, kernels.sinks, kernels.results(batch))

        def call(layer: Any, head: Any, tail: Any) -> Callable[[], object]:
            return lambda: kernels.decode(head, layer, *tail)

        duration = seconds([call(layer, head, tail) for layer in pages.layers])
        moved = batch * kernels.products(1, length) * kernels.key_bytes
        report(f"decode, batch {batch}, context {length}", duration, moved / duration, "GB/s")


def prefills(kernels: Kernels) -> None:
    """Measure new tokens after those that their sequences already hold. Only products that the causal mask
    and the window leave are counted.
    """
    for batch, length, held in PREFILLS:
        pages = Pages(kernels, batch, held + length)
        first = tensor(np.arange(batch + 1, dtype=np.int32) * length)
        rows = (tensor(np.array([batch], np.int32)), first)
        head = kernels.queries(batch * length)
        tail = (*rows, *pages.table, kernels.sinks, kernels.results(batch * length))

        def call(layer: Any, head: Any, tail: Any) -> Callable[[], object]:
            return lambda: kernels.prefill(head, layer, *tail)

        duration = seconds([call(layer, head, tail) for layer in pages.layers])
        products = batch * kernels.products(length, held + length)
        operations = 4 * kernels.heads.dim * kernels.heads.num_q * products
        name = f"prefill, batch {batch}, {length} after {held}"
        report(name, duration, operations / duration, "GFLOP/s")


def appends(kernels: Kernels) -> None:
    """Measure the rotation of new queries and keys, and the writing of keys and values to their pages."""
    heads = kernels.heads
    for rows in APPENDED:
        qkv = kernels.random(1, rows, heads.num_q + 2 * heads.num_kv, heads.dim)
        positions = tensor(np.arange(rows, dtype=np.int32))
        arguments = (qkv, positions, positions, Pages(kernels, 1, 512).layers[0], kernels.queries(rows))
        duration = seconds([lambda arguments=arguments: kernels.append(*arguments)])  # type: ignore[misc]
        report(f"append, {rows} tokens", duration, 2 * qkv.numpy().nbytes / duration, "GB/s")


if __name__ == "__main__":
    main()
