"""Layers of attention over the server's KV cache, compared with attention by its definition."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from tvm import relax
from tvm.relax.frontend import nn

from mlc_serve.compiler.layers.cpu import CPULayers
from mlc_serve.compiler.optimization import find_level
from mlc_serve.compiler.pipeline import lowering, pipeline_for
from mlc_serve.compiler.target import target_for
from mlc_serve.engine.limits import EngineLimits
from mlc_serve.models.parts.attention import AttentionLayer, AttentionShape
from mlc_serve.models.rope import Rope
from mlc_serve.quantization.scheme import find_scheme
from mlc_serve.runtime.paged_kv import PagedKV
from tests.compiler.kernels.cpu.attention.reference import Rules, attend, rotated

SHAPE = AttentionShape(
    num_q_heads=6,
    num_kv_heads=2,
    head_dim=32,
    layers=(AttentionLayer(Rope(1e4)), AttentionLayer(None, window=20)),
    scale=0.3,
    soft_cap=4.0,
    has_sinks=True,
)
LIMITS = EngineLimits(
    max_num_sequence=4,
    max_total_sequence_length=500,
    max_single_sequence_length=300,
    prefill_chunk_size=128,
)
Floats = NDArray[Any]


class TwoLayers(nn.Module):  # type: ignore[misc]  # TVM is untyped
    """The attention of a model with two layers, which get the same queries, keys and values."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.make = CPULayers(find_scheme("q0f32"), find_level("O0"), target_for("cpu"))
        self.make.attention_dtype = dtype
        self.layers = nn.ModuleList([self.make.attention(SHAPE, layer) for layer in range(2)])

    def prefill(self, qkv: nn.Tensor, state: Any) -> list[nn.Tensor]:
        passed = self.make.state(state, one_token_each=False)
        return [layer(qkv, passed) for layer in self.layers]

    def decode(self, qkv: nn.Tensor, state: Any) -> list[nn.Tensor]:
        passed = self.make.state(state, one_token_each=True)
        return [layer(qkv, passed) for layer in self.layers]

    def spec(self) -> nn.spec.ModuleSpec:
        qkv = nn.spec.Tensor([1, "num_tokens", SHAPE.num_heads, SHAPE.head_dim], self.dtype)
        modes = {"$": {"param_mode": "packed", "effect_mode": "none"}}
        function = {"qkv": qkv, "state": self.make.state_spec(SHAPE)}
        return nn.spec.ModuleSpec.from_raw({"prefill": function | modes, "decode": function | modes}, self)


@dataclass
class Checked:
    """A cache, and a record of the queries, keys and values that it was given."""

    machine: Any
    dtype: str
    given: dict[int, Floats] = field(default_factory=dict)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def __post_init__(self) -> None:
        metadata = {
            "page_size": 16,
            "num_hidden_layers": SHAPE.num_layers,
            "num_key_value_heads": SHAPE.num_kv_heads,
            "head_dim": SHAPE.head_dim,
            "dtype": self.dtype,
        }
        self.cache = PagedKV(metadata, LIMITS)
        self.sinks = self.rng.standard_normal((SHAPE.num_layers, SHAPE.num_q_heads), np.float32)

    def add(self, seq_id: int) -> None:
        self.cache.add_sequence(seq_id)
        self.given[seq_id] = np.zeros((0, SHAPE.num_heads, SHAPE.head_dim), self.dtype)

    def fork(self, parent: int, child: int, length: int) -> None:
        self.cache.fork_sequence(parent, child, length)
        self.given[child] = self.given[parent][:length]

    def pop(self, seq_id: int, count: int) -> None:
        self.cache.pop(seq_id, count)
        self.given[seq_id] = self.given[seq_id][:-count]

    def step(self, name: str, lengths: dict[int, int]) -> float:
        """Compute `lengths` tokens of the sequences, and return the greatest error by the greatest value."""
        new = [
            self.rng.standard_normal((length, SHAPE.num_heads, SHAPE.head_dim)).astype(self.dtype)
            for length in lengths.values()
        ]
        self.cache.begin_forward(list(lengths), list(lengths.values()))
        qkv = tvm.runtime.tensor(np.concatenate(new)[None])
        sinks = [tvm.runtime.tensor(layer) for layer in self.sinks]
        outputs = self.machine[name](qkv, *self.cache.arguments, sinks)
        self.cache.end_forward()
        for seq_id, rows in zip(lengths, new, strict=True):
            self.given[seq_id] = np.concatenate([self.given[seq_id], rows])
        errors = [self.error(layer, lengths, output.numpy()[0]) for layer, output in enumerate(outputs)]
        return max(errors) / float(max(np.abs(rows).max() for rows in new))

    def error(self, layer: int, lengths: dict[int, int], output: Floats) -> float:
        """How wrong the output of a layer is for the last tokens of the sequences."""
        errors, row = [0.0], 0
        for seq_id, length in lengths.items():
            expected = self.expected(layer, seq_id, length)
            got = output[row : row + length].reshape(expected.shape)
            errors.append(float(np.abs(got - expected).max()))
            row += length
        return max(errors)

    def expected(self, layer: int, seq_id: int, length: int) -> Floats:
        heads = SHAPE.num_q_heads, SHAPE.num_q_heads + SHAPE.num_kv_heads
        q, k, v = np.split(self.given[seq_id], heads, 1)
        if SHAPE.layers[layer].rope is not None:
            q, k = rotated(q), rotated(k)
        window, sinks = SHAPE.layers[layer].window, self.sinks[layer]
        return attend(q[-length:], k, v, Rules(True, SHAPE.scale, window, SHAPE.soft_cap, sinks))


TOLERANCES = {"float32": 1e-5, "float16": 4e-3}


@pytest.fixture(scope="module", params=TOLERANCES)
def machine(request: pytest.FixtureRequest) -> tuple[Any, str]:
    """The compiled layers, and their type."""
    target = target_for("cpu")
    model = TwoLayers(request.param)
    with target, lowering(target):
        module, _ = model.export_tvm(spec=model.spec())
        executable = tvm.compile(module, target=target, relax_pipeline=pipeline_for(target))
    return relax.VirtualMachine(executable, tvm.cpu()), request.param


def test_prefill_decode_fork_and_pop_attend_to_what_they_should(machine: tuple[Any, str]) -> None:
    """Attention is right in each layer after ragged prefill, decode, forks, chunks that are longer than a
    layer's window, and pops.
    """
    checked, tolerance = Checked(*machine), TOLERANCES[machine[1]]
    checked.add(0)
    checked.add(1)
    assert checked.step("prefill", {0: 37, 1: 5}) < tolerance
    assert checked.step("decode", {0: 1, 1: 1}) < tolerance
    checked.fork(0, 2, 32)
    assert checked.step("prefill", {2: 3, 0: 1, 1: 70}) < tolerance
    assert checked.step("decode", {0: 1, 1: 1, 2: 1}) < tolerance
    checked.pop(0, 7)
    assert checked.step("prefill", {0: 1, 2: 1}) < tolerance
    checked.cache.remove_sequence(1)
    checked.add(1)
    assert checked.step("prefill", {0: 30, 1: 90}) < tolerance
    assert checked.step("decode", {2: 1, 1: 1}) < tolerance
