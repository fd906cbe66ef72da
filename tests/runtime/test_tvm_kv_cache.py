"""TVM's KV cache, which libraries for GPUs and those of MLC take, with TVM's own kernels for the CPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache

from mlc_serve.compiler.layers.gpu import GPULayers
from mlc_serve.compiler.target import target_for
from mlc_serve.engine.limits import EngineLimits
from mlc_serve.errors import CheckpointError
from mlc_serve.models.layers import CacheSize
from mlc_serve.models.parts.attention import AttentionLayer, AttentionShape
from mlc_serve.models.rope import Rope
from mlc_serve.quantization.scheme import find_scheme
from mlc_serve.runtime.tvm_kv_cache import TVMKVCache
from tests.compiler.kernels.cpu.attention.reference import Rules, attend, rotated

SHAPE = AttentionShape(4, 2, 32, (AttentionLayer(Rope(1e4)),), scale=0.25)
LIMITS = EngineLimits(
    max_num_sequence=4,
    max_total_sequence_length=256,
    max_single_sequence_length=200,
    prefill_chunk_size=64,
)


class OneLayer(nn.Module):  # type: ignore[misc]  # TVM is untyped
    """The attention of a model with one layer."""

    def __init__(self) -> None:
        self.make = GPULayers(find_scheme("q0f32"), target_for("cpu"))
        self.layer = self.make.attention(SHAPE, 0)

    def create(
        self, batch: tirx.Var, tokens: tirx.Var, chunk: tirx.Var, page: tirx.Var, window: tirx.Var
    ) -> PagedKVCache:
        return self.make.kv_cache(SHAPE, CacheSize(batch, tokens, chunk, page, window))

    def attend(self, qkv: nn.Tensor, state: Any) -> Any:
        passed = self.make.state(state, one_token_each=False)
        return passed.returned(self.layer(qkv, passed))

    def spec(self) -> nn.spec.ModuleSpec:
        qkv = nn.spec.Tensor([1, "num_tokens", SHAPE.num_heads, SHAPE.head_dim], "float32")
        none = {"$": {"param_mode": "none", "effect_mode": "none"}}
        sizes = dict.fromkeys(("batch", "tokens", "chunk", "page", "window"), int)
        attend = {"qkv": qkv, "state": self.make.state_spec(SHAPE)}
        return nn.spec.ModuleSpec.from_raw({"create": sizes | none, "attend": attend | none}, self)


@pytest.fixture(scope="module")
def machine() -> Any:
    """The compiled layer."""
    target, model = target_for("cpu"), OneLayer()
    with target:
        module, _ = model.export_tvm(spec=model.spec())
        executable = tvm.compile(module, target=target, relax_pipeline=relax.get_default_pipeline(target))
    return relax.VirtualMachine(executable, tvm.cpu())


def test_passes_fill_it_and_attend_to_it(machine: Any) -> None:
    """A fork attends to what it shares and to what it has of its own; pages are taken and freed."""
    library: Any = SimpleNamespace(
        info=SimpleNamespace(page_size=16), cache_constructor=lambda: machine["create"]
    )
    cache, rng = TVMKVCache(library, LIMITS), np.random.default_rng(0)

    def append(seq_id: int, count: int) -> tuple[Any, Any]:
        qkv = rng.standard_normal((1, count, SHAPE.num_heads, SHAPE.head_dim), dtype=np.float32)
        cache.begin_forward([seq_id], [count])
        output = cache.result_of(machine["attend"](tvm.runtime.tensor(qkv), *cache.arguments))
        cache.end_forward()
        return qkv[0], output.numpy()[0]

    cache.add_sequence(0)
    first, _ = append(0, 40)
    assert cache.num_pages - cache.num_free_pages == cache.num_pages_of(40)
    cache.fork_sequence(0, 1, 32)
    new, output = append(1, 3)
    q, k, v = np.split(np.concatenate([first[:32], new]), (4, 6), 1)
    expected = attend(rotated(q)[-3:], rotated(k), v, Rules(scale=0.25))
    np.testing.assert_allclose(output.reshape(expected.shape), expected, atol=1e-4)
    cache.pop(1, 3)
    cache.remove_sequence(0)
    assert cache.num_pages - cache.num_free_pages == 2
    cache.clear()
    assert cache.num_pages == cache.num_free_pages


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"layers": (AttentionLayer(Rope(1e4), 8),)}, "layers with a sliding window"),
        (
            {"layers": (AttentionLayer(Rope(1e4)), AttentionLayer(None))},
            "layers with different rotary positions",
        ),
        ({"soft_cap": 5.0}, "soft caps"),
        ({"has_sinks": True}, "sinks"),
    ],
)
def test_what_it_can_not_do_is_refused_by_name(changes: dict[str, Any], name: str) -> None:
    """When the model is built."""
    shape = AttentionShape(**{**vars(SHAPE), **changes})
    with pytest.raises(CheckpointError, match=f"{name}.* only on the CPU"):
        GPULayers(find_scheme("q0f16"), target_for("cpu")).attention(shape, 0)
