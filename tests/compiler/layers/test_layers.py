"""Whole layers, for every scheme and level, against NumPy: a small MLP with all that its parts can do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from tvm import relax
from tvm.relax.frontend import nn

from mlc_serve.compiler.layers.cpu import CPULayers
from mlc_serve.compiler.layers.gpu import GPULayers
from mlc_serve.compiler.optimization import find_level
from mlc_serve.compiler.pipeline import lowering
from mlc_serve.compiler.target import target_for
from mlc_serve.models.layers import Layers
from mlc_serve.models.parts.activation import Activation
from mlc_serve.models.parts.norm import Norm
from mlc_serve.quantization.groups import quantize
from mlc_serve.quantization.packing import pack
from mlc_serve.quantization.scheme import Scheme, find_scheme
from tests.compiler.kernels.cpu.linear.norms import normalised
from tests.compiler.kernels.cpu.linear.quantized import ACTIVATIONS

Array = NDArray[Any]
VOCAB, POSITIONS = 41, 40


class Form(NamedTuple):
    """The sizes of a model and its functions."""

    hidden: int
    inner: int
    norm: Norm
    activation: Activation
    bias: bool
    scale: float  # of embeddings, of what is added to the residual, and of logits


# Gate and up of the first and the last are whole tiles, which a product can alternate.
FORMS = (
    Form(64, 48, Norm("layer", 64, 1e-5, bias=True), "gelu_tanh", True, 0.5),
    Form(50, 20, Norm("rms", 50, 1e-5), "relu_squared", False, 1.0),
    Form(96, 96, Norm("layer", 96, 1e-5), "gelu", True, 2.0),
)


class Model(nn.Module):  # type: ignore[misc]  # TVM is untyped
    """A gated MLP, one without a gate, and a head, with norms in every place where models have them."""

    def __init__(self, form: Form, layers: Layers) -> None:
        hidden, inner, bias = form.hidden, form.inner, form.bias
        self.form, self.make = form, layers
        self.embed = layers.embedding(VOCAB, hidden, scale=form.scale)
        self.positions = layers.table(POSITIONS, hidden)
        self.first, self.second, self.third = (layers.norm(form.norm) for _ in range(3))
        self.gate_up = layers.linear(hidden, 2 * inner, bias=bias, activation=form.activation, gated=True)
        self.down = layers.linear(inner, hidden, bias=bias)
        self.up = layers.linear(hidden, inner, bias=bias, activation=form.activation)
        self.out = layers.linear(inner, hidden, bias=bias)
        self.head = layers.linear(hidden, VOCAB, bias=bias)

    def run(self, ids: nn.Tensor, positions: nn.Tensor) -> tuple[nn.Tensor, nn.Tensor]:
        """The logits of the head, and those of the embeddings."""
        rows = self.embed(ids)
        x = self.positions.add_to(rows.reshape(1, rows.shape[0], self.form.hidden), positions)
        x = self.down.add_to(x, self.gate_up.activated(self.first(x)), self.form.scale)
        x = self.second.add_to(x, self.out(self.up.activated(self.second.rows(x))))
        last = self.third(x)
        return self.make.soften(self.head(last), self.form.scale, 2.0), self.embed.logits(last)


class Reference(NamedTuple):
    """The same in float64."""

    form: Form
    weights: dict[str, Array]  # by name, as the numbers that they stand for

    def run(self, ids: Array, positions: Array) -> tuple[Array, Array]:
        """Logits `(1, s, VOCAB)` twice."""
        form, activate = self.form, ACTIVATIONS[self.form.activation]
        x = (self.weights["embed"][ids] * form.scale + self.weights["positions"][positions])[None]
        gate, up = np.split(self._product("gate_up", self._norm("first", x)), 2, axis=2)
        x = x + form.scale * self._product("down", activate(gate) * up)
        x = x + self._norm(
            "second", self._product("out", activate(self._product("up", self._norm("second", x))))
        )
        last = self._norm("third", x)
        capped = 2 * np.tanh(form.scale * self._product("head", last) / 2)
        return capped, last @ self.weights["embed"].T

    def _product(self, name: str, x: Array) -> Array:
        y: Array = x @ self.weights[name].T
        return y + self.weights[f"{name}.bias"] if self.form.bias else y

    def _norm(self, name: str, x: Array) -> Array:
        bias = self.weights.get(f"{name}.bias", np.zeros(()))
        return normalised(x, self.form.norm, self.weights[name], bias)


def random_weights(params: list[tuple[str, nn.Parameter]], scheme: Scheme) -> tuple[list[Array], Any]:
    """Random values for parameters as kernels read them, and by the layers' names what they stand for."""
    rng = np.random.default_rng(0)
    stored: dict[str, Array] = {}
    dense: dict[str, Array] = {}
    for name, param in params:
        layer, _, kind = name.rpartition(".")
        shape = param.attrs.get("logical_shape", [int(extent) for extent in param.shape])
        layout = param.attrs.get("layout", "plain")
        if kind == "q_scale":
            continue
        values = rng.standard_normal(shape) / math.sqrt(shape[-1] if len(shape) > 1 else 1)
        if kind == "q_weight":
            assert scheme.groups is not None
            quantized = quantize(values.astype(np.float32), scheme.groups)
            numbers = (quantized.stored.astype(np.float64) - scheme.groups.offset) * np.repeat(
                quantized.scale.astype(np.float64), scheme.groups.group_size, axis=1
            )
            dense[layer] = numbers[:, : shape[1]]
            stored[name] = pack(quantized.stored, layout, scheme.groups.offset)
            scale_layout = layout.replace(f"u{scheme.groups.bits}", "scale")
            stored[f"{layer}.q_scale"] = pack(quantized.scale, scale_layout)
        else:
            cast = values.astype(str(param.dtype))
            dense[layer if kind == "weight" else name] = cast.astype(np.float64)
            stored[name] = pack(cast, layout)
    return [stored[name] for name, _ in params], dense


def compiled(model: Model) -> tuple[Callable[..., Any], list[tuple[str, nn.Parameter]]]:
    """`Model.run` as a function of ids, positions and parameters."""
    modes = {"param_mode": "packed", "effect_mode": "none"}
    rows = nn.spec.Tensor(["s"], "int32")
    spec = nn.spec.ModuleSpec.from_raw({"run": {"ids": rows, "positions": rows, "$": modes}}, model)
    target = target_for("cpu")
    with target, lowering(target):
        module, params, _ = model.export_tvm(spec=spec, allow_extern=True)
        executable = tvm.compile(module, target=target)
    return relax.VirtualMachine(executable, tvm.cpu())["run"], params


def error(form: Form, layers: Layers, scheme: Scheme) -> float:
    """The root mean square of the distances from NumPy's logits, relative to the spread of the logits, for
    the worst of several numbers of rows.
    """
    run, params = compiled(Model(form, layers))
    stored, dense = random_weights(params, scheme)
    tensors = [tvm.runtime.tensor(array) for array in stored]
    worst = 0.0
    for num_rows in (1, 3, 37):
        ids = np.random.default_rng(num_rows).integers(0, VOCAB, num_rows).astype(np.int32)
        positions = np.arange(num_rows, dtype=np.int32)[::-1].copy()
        results = run(tvm.runtime.tensor(ids), tvm.runtime.tensor(positions), tensors)
        for result, expected in zip(results, Reference(form, dense).run(ids, positions), strict=True):
            distance = np.sqrt(np.mean((result.numpy() - expected) ** 2))
            worst = max(worst, float(distance / expected.std()))
    return worst


@pytest.mark.parametrize(
    ("form", "quantization", "level", "bound"),
    [
        (FORMS[0], "q0f32", "O0", 1e-5),
        (FORMS[1], "q0f32", "O2", 1e-5),
        (FORMS[2], "q0f16", "O2", 1e-5),
        (FORMS[0], "q0bf16", "O2", 0.02),  # rows may be rounded to bfloat16
        (FORMS[0], "q8f32_1", "O0", 1e-5),
        (FORMS[1], "q8f32_1", "O1", 0.05),  # rows are rounded to bytes
        (FORMS[0], "q8f32_1", "O3", 0.05),
        (FORMS[1], "q4f16_1", "O2", 0.05),
    ],
)
def test_layers_on_the_cpu(form: Form, quantization: str, level: str, bound: float) -> None:
    """The logits of a small model are those of NumPy for the numbers that its weights stand for."""
    scheme = find_scheme(quantization)
    layers = CPULayers(scheme, find_level(level), target_for("cpu"))
    assert error(form, layers, scheme) < bound


@pytest.mark.parametrize("form", FORMS[:2], ids=lambda form: form.activation)
def test_layers_of_operators(form: Form) -> None:
    """The layers for GPUs, compiled for the CPU, compute the same."""
    scheme = find_scheme("q0f32")
    assert error(form, GPULayers(scheme, target_for("cpu")), scheme) < 1e-5
