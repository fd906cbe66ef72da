"""Whole mixtures of experts as the layers of a device make them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import relax
from tvm.relax.frontend import nn
from tvm.runtime import Executable
from tvm.target import Target

from mlc_serve.compiler.layers.cpu import CPULayers
from mlc_serve.compiler.layers.gpu import GPULayers
from mlc_serve.compiler.layers.gpu_experts import PlainChoice, PlainExpertMLPs
from mlc_serve.compiler.optimization import find_level
from mlc_serve.compiler.pipeline import lowering, pipeline_for
from mlc_serve.compiler.target import target_for
from mlc_serve.models.layers import Layers
from mlc_serve.models.parts.experts import ClampedSwiGLU, ExpertGroups, Experts, Routing
from mlc_serve.models.parts.norm import Norm
from mlc_serve.quantization.groups import quantize
from mlc_serve.quantization.packing import pack
from mlc_serve.quantization.scheme import Scheme, find_scheme
from tests.compiler.kernels.cpu.experts.reference import Array, Weights, gated, mixed

HIDDEN, EPSILON = 64, 1e-5
SPECS = {
    "mixtral": Experts(8, 2, 96, routing=Routing(renormalized=True)),
    "qwen2_moe": Experts(8, 3, 40, shared=48, shared_gate=True),
    "gpt_oss": Experts(4, 2, 48, ClampedSwiGLU(limit=1.0), Routing(renormalized=True, bias=True), bias=True),
    "deepseek_v3": Experts(
        12,
        3,
        32,
        routing=Routing("sigmoid", True, 2.5, correction=True, groups=ExpertGroups(4, 2, summed=2)),
        shared=64,
    ),
}


class Layer(nn.Module):  # type: ignore[misc]  # TVM is untyped
    """A norm and a mixture of experts."""

    def __init__(self, layers: Layers, spec: Experts) -> None:
        self.norm, self.mlp = layers.norm(Norm("rms", HIDDEN, EPSILON)), layers.experts(spec, HIDDEN)

    def run(self, x: nn.Tensor) -> nn.Tensor:
        return self.mlp.add_to(x, self.norm(x))


def export(layer: nn.Module, **inputs: nn.spec.Tensor) -> tuple[tvm.IRModule, list[tuple[str, nn.Parameter]]]:
    """The module of `layer.run` and its parameters."""
    modes = {"param_mode": "packed", "effect_mode": "none"}
    module, parameters = layer.export_tvm(
        spec=nn.spec.ModuleSpec.from_raw({"run": inputs | {"$": modes}}, layer)
    )
    return module, parameters


def compiled(module: tvm.IRModule, target: Target) -> Executable:
    """The module's code."""
    with lowering(target):
        return tvm.compile(module, target=target, relax_pipeline=pipeline_for(target))


def run(module: tvm.IRModule, *arguments: Any) -> Array:
    """What `run` returns on this CPU; a list of arguments is the parameters."""
    device = tvm.cpu()
    machine = relax.VirtualMachine(compiled(module, target_for("cpu")), device)
    tensors = [
        [tvm.runtime.tensor(x, device) for x in argument]
        if isinstance(argument, list)
        else tvm.runtime.tensor(argument, device)
        for argument in arguments
    ]
    return np.asarray(machine["run"](*tensors).numpy())


def stored(
    parameters: list[tuple[str, nn.Parameter]], weights: dict[str, Array], scheme: Scheme
) -> list[Array]:
    """Weights with canonical names as the parameters of a library, as conversion makes them."""

    def one(name: str, parameter: nn.Parameter) -> Array:
        layout = parameter.attrs.get("layout", "plain")
        if (matrix := weights.get(name)) is not None:
            return pack(matrix.astype(parameter.dtype), layout)
        assert scheme.groups is not None
        quantized = quantize(weights[f"{name.rpartition('.')[0]}.weight"], scheme.groups)
        if name.endswith(".q_scale"):
            return pack(quantized.scale, layout)
        return pack(quantized.stored, layout, scheme.groups.offset)

    return [one(name, parameter) for name, parameter in parameters]


def random_weights(spec: Experts) -> dict[str, Array]:
    """All weights of a layer, by their canonical names."""
    rng = np.random.default_rng(0)
    shapes = dict(spec.weights("mlp", HIDDEN)) | {"norm.weight": (HIDDEN,)}
    return {
        name: (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
        for name, shape in shapes.items()
    }


def chosen(spec: Experts, weights: dict[str, Array], rows: Array) -> tuple[Array, Array]:
    """The experts of rows, and their shares."""
    routing = spec.routing
    logits = rows @ weights["mlp.router.weight"].T + weights.get("mlp.router.bias", 0)
    if routing.scores == "softmax":
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    else:
        scores = 1 / (1 + np.exp(-logits))
    ranks = scores + weights.get("mlp.router.correction", 0)
    if (groups := routing.groups) is not None:
        grouped = ranks.reshape(len(ranks), groups.number, -1)
        ratings = np.sort(grouped, axis=2)[:, :, -groups.summed :].sum(axis=2)
        grouped[ratings < np.sort(ratings, axis=1)[:, -groups.num_active, None]] = -np.inf
    ids = np.argsort(-ranks, axis=1)[:, : spec.num_active]
    shares = np.take_along_axis(scores, ids, axis=1)
    if routing.renormalized:
        shares /= shares.sum(axis=1, keepdims=True)
    return ids, shares * routing.factor


def expected(spec: Experts, weights: dict[str, Array], x: Array) -> Array:
    """What the layer adds to rows `(s, hidden)`."""
    rows = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + EPSILON) * weights["norm.weight"]
    number = spec.num_experts
    of_experts = Weights(
        weights["mlp.experts.gate_up_proj.weight"],
        weights.get("mlp.experts.gate_up_proj.bias", np.zeros(number * 2 * spec.inner)),
        weights["mlp.experts.down_proj.weight"],
        weights.get("mlp.experts.down_proj.bias", np.zeros(number * HIDDEN)),
    )
    y = mixed(spec, of_experts, rows, *chosen(spec, weights, rows))
    if spec.shared is not None:
        gate, up = np.split(rows @ weights["mlp.shared_expert.gate_up_proj.weight"].T, 2, axis=1)
        result = gated("silu", gate, up) @ weights["mlp.shared_expert.down_proj.weight"].T
        if spec.shared_gate:
            result = result / (1 + np.exp(-rows @ weights["mlp.shared_gate.weight"].T))
        y += result
    return y


@pytest.mark.parametrize(
    ("family", "scheme_name", "level", "tolerance"),
    [
        ("mixtral", "q0bf16", "O2", 0.03),
        ("deepseek_v3", "q0f32", "O2", 1e-5),
        ("qwen2_moe", "q8f32_1", "O3", 0.03),
        ("gpt_oss", "q4f16_1", "O0", 0.2),
    ],
)
def test_a_layer_adds_what_its_experts_make_of_the_norm(
    family: str, scheme_name: str, level: str, tolerance: float
) -> None:
    """The parameters are those that the specification names, and the result equals NumPy's, as far as
    weights and activations are not rounded.
    """
    spec, scheme, target = SPECS[family], find_scheme(scheme_name), target_for("cpu")
    layers = CPULayers(scheme, find_level(level), target)
    module, parameters = export(Layer(layers, spec), x=nn.spec.Tensor([1, "s", HIDDEN], "float32"))
    weights = random_weights(spec)
    names = [name.replace(".q_weight", ".weight") for name, _ in parameters if not name.endswith(".q_scale")]
    assert sorted(names) == sorted(weights)
    x = np.random.default_rng(1).standard_normal((1, 9, HIDDEN)).astype(np.float32)
    y = run(module, x, stored(parameters, weights, scheme))
    wanted = expected(spec, weights, x[0].astype(np.float64))
    np.testing.assert_allclose((y - x)[0], wanted, atol=tolerance * np.abs(wanted).max())


class PlainProducts(nn.Module):  # type: ignore[misc]  # TVM is untyped
    """The experts of GPUs without their router, which needs the threads of one."""

    def __init__(self, spec: Experts) -> None:
        self.experts = PlainExpertMLPs(spec, HIDDEN, "float32")

    def run(self, x: nn.Tensor, ids: nn.Tensor, shares: nn.Tensor) -> nn.Tensor:
        return self.experts.add_to(x, x, PlainChoice(ids, shares))


def test_products_for_gpus_are_those_of_numpy() -> None:
    """Their loops, run on the CPU, give what NumPy gives."""
    spec = SPECS["gpt_oss"]
    inputs = {
        "x": nn.spec.Tensor([1, "s", HIDDEN], "float32"),
        "ids": nn.spec.Tensor(["s", 2], "int32"),
        "shares": nn.spec.Tensor(["s", 2], "float32"),
    }
    module, _ = export(PlainProducts(spec), **inputs)
    weights = Weights.random(spec, HIDDEN)
    operands = [weights.gate_up, weights.gate_up_bias, weights.down, weights.down_bias]
    rng = np.random.default_rng(0)
    x, shares = rng.standard_normal((1, 5, HIDDEN), np.float32), rng.random((5, 2), np.float32)
    ids = np.array([[0, 1], [3, 2], [1, 3], [2, 0], [3, 1]], np.int32)
    y = run(module, x, ids, shares, operands)
    wanted = mixed(spec, weights, x[0].astype(np.float64), ids, shares)
    np.testing.assert_allclose((y - x)[0], wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("family", ["qwen2_moe", "gpt_oss"])
@pytest.mark.parametrize("kind", ["metal", "opencl"])
def test_a_layer_for_gpus_is_compiled(kind: str, family: str) -> None:
    """Code is generated for every kernel; this machine can't check more."""
    if tvm_ffi.get_global_func(f"target.build.{kind}", allow_missing=True) is None:
        pytest.skip(f"this TVM generates no code for {kind}")
    target = target_for(kind, None)
    layers = GPULayers(find_scheme("q0f16"), target)
    x = nn.spec.Tensor([1, "s", HIDDEN], "float16")
    module, _ = export(Layer(layers, SPECS[family]), x=x)
    assert compiled(module, target) is not None
