"""TVM's paged KV cache with the CPU's kernels, compared with attention by its definition."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from numpy.typing import NDArray
from tvm import relax, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache

from mlc_serve.compiler.layers.cpu import CPULayers
from mlc_serve.compiler.optimization import find_level
from mlc_serve.compiler.pipeline import lowering_options, pipeline_for
from mlc_serve.compiler.target import target_for
from mlc_serve.models.layers import CacheSize
from mlc_serve.models.parts.attention import AttentionLayer, AttentionShape
from mlc_serve.models.rope import Rope
from mlc_serve.quantization.scheme import find_scheme
from tests.compiler.kernels.cpu.attention.reference import attend

SHAPE = AttentionShape(6, 2, 32, (AttentionLayer(Rope(1e4)),), scale=32**-0.5)
NUM_HEADS = SHAPE.num_q_heads + 2 * SHAPE.num_kv_heads
SCALE = SHAPE.head_dim**-0.5
Floats = NDArray[Any]


class OneLayer(nn.Module):  # type: ignore[misc]  # TVM is untyped
    """The attention of a model with one layer."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def create(
        self, batch: tirx.Var, tokens: tirx.Var, chunk: tirx.Var, page: tirx.Var, window: tirx.Var
    ) -> PagedKVCache:
        layers = CPULayers(find_scheme("q0f32"), find_level("O0"), target_for("cpu"))
        layers.attention_dtype = self.dtype
        return layers.kv_cache(SHAPE, CacheSize(batch, tokens, chunk, page, window))

    def attend(self, qkv: nn.Tensor, cache: PagedKVCache) -> nn.Tensor:
        return cache.attention_with_fused_qkv(0, qkv, SHAPE.num_q_heads, SCALE)

    def spec(self) -> nn.spec.ModuleSpec:
        qkv = nn.spec.Tensor([1, "num_tokens", NUM_HEADS, SHAPE.head_dim], self.dtype)
        none = {"$": {"param_mode": "none", "effect_mode": "none"}}
        sizes = dict.fromkeys(("batch", "tokens", "chunk", "page", "window"), int)
        attend = {"qkv": qkv, "cache": nn.spec.Object(object_type=PagedKVCache)}
        return nn.spec.ModuleSpec.from_raw({"create": sizes | none, "attend": attend | none}, self)


def rotated(x: Floats, start: int) -> Floats:
    """X `(n, h, d)` turned by the positions from `start`."""
    half = SHAPE.head_dim // 2
    angles = np.arange(start, start + len(x))[:, None, None] * 1e4 ** -(np.arange(half) / half)
    first, second = x[..., :half].astype(np.float64), x[..., half:].astype(np.float64)
    cosine, sine = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)


@dataclass
class Sequence:
    """What the cache should hold of a sequence."""

    keys: Floats
    values: Floats


@dataclass
class Checked:
    """A cache, and a record of everything that it was given."""

    machine: Any
    dtype: str
    sequences: dict[int, Sequence] = field(default_factory=dict)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def __post_init__(self) -> None:
        sizes = (8, 512, 128, 16, 0)
        self.cache = self.machine["create"](*(tvm_ffi.Shape([size]) for size in sizes))

    def call(self, name: str, *arguments: Any) -> Any:
        return tvm_ffi.get_global_func(f"vm.builtin.{name}")(self.cache, *arguments)

    def add(self, seq_id: int) -> None:
        self.call("kv_state_add_sequence", seq_id)
        empty = np.zeros((0, SHAPE.num_kv_heads, SHAPE.head_dim))
        self.sequences[seq_id] = Sequence(empty, empty)

    def fork(self, parent: int, child: int, length: int) -> None:
        self.call("kv_state_fork_sequence", parent, child, length)
        source = self.sequences[parent]
        self.sequences[child] = Sequence(source.keys[:length], source.values[:length])

    def pop(self, seq_id: int, count: int) -> None:
        self.call("kv_state_popn", seq_id, count)
        sequence = self.sequences[seq_id]
        sequence.keys, sequence.values = sequence.keys[:-count], sequence.values[:-count]

    def step(self, lengths: dict[int, int]) -> float:
        """Compute `lengths` tokens of the sequences, and return the greatest error by the greatest value."""
        total = sum(lengths.values())
        qkv = self.rng.standard_normal((total, NUM_HEADS, SHAPE.head_dim)).astype(self.dtype)
        self.call(
            "kv_state_begin_forward", tvm_ffi.Shape(list(lengths)), tvm_ffi.Shape(list(lengths.values()))
        )
        output = self.machine["attend"](tvm.runtime.tensor(qkv[None]), self.cache).numpy()[0]
        self.call("kv_state_end_forward")
        errors, row = [], 0
        for seq_id, length in lengths.items():
            rows = slice(row, row + length)
            errors.append(np.abs(self.expected(seq_id, qkv[rows]) - output[rows]).max())
            row += length
        return float(max(errors) / np.abs(qkv).max())

    def expected(self, seq_id: int, qkv: Floats) -> Floats:
        """The right attention of a sequence's new tokens, whose keys and values are recorded."""
        sequence = self.sequences[seq_id]
        held = len(sequence.keys)
        q, k, v = np.split(qkv, (SHAPE.num_q_heads, SHAPE.num_q_heads + SHAPE.num_kv_heads), 1)
        sequence.keys = np.concatenate([sequence.keys, rotated(k, held)])
        sequence.values = np.concatenate([sequence.values, v])
        return attend(rotated(q, held), sequence.keys, sequence.values, causal=True)[0]


TOLERANCES = {"float32": 1e-5, "float16": 4e-3}


@pytest.fixture(scope="module", params=TOLERANCES)
def machine(request: pytest.FixtureRequest) -> tuple[Any, str]:
    """The compiled layer, and its type."""
    target = target_for("cpu")
    model = OneLayer(request.param)
    with target, tvm.transform.PassContext(config=lowering_options(target)):
        module, _ = model.export_tvm(spec=model.spec())
        executable = tvm.compile(module, target=target, relax_pipeline=pipeline_for(target))
    return relax.VirtualMachine(executable, tvm.cpu()), request.param


def test_prefill_decode_fork_and_pop_attend_to_what_they_should(machine: tuple[Any, str]) -> None:
    """Attention is right after ragged prefill, decode, a fork within a page, later chunks and a pop."""
    checked, tolerance = Checked(*machine), TOLERANCES[machine[1]]
    checked.add(0)
    checked.add(1)
    assert checked.step({0: 37, 1: 5}) < tolerance
    assert checked.step({0: 1, 1: 1}) < tolerance
    checked.fork(0, 2, 20)
    assert checked.step({2: 3, 0: 1, 1: 70}) < tolerance
    assert checked.step({0: 1, 1: 1, 2: 1}) < tolerance
    checked.pop(0, 9)
    assert checked.step({0: 1, 2: 1}) < tolerance
    assert checked.step({0: 30, 1: 1}) < tolerance
