"""The layers of recurrent models, for the CPU. Activations and states are float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from tvm import relax, tirx
from tvm.relax.frontend import nn

from mlc_serve.compiler.kernels.cpu.recurrent.gates import add_gated, gated_group_norm
from mlc_serve.compiler.kernels.cpu.recurrent.low_rank import low_rank_product, low_rank_tanh
from mlc_serve.compiler.kernels.cpu.recurrent.short_conv import short_conv
from mlc_serve.compiler.kernels.cpu.recurrent.states import get_states, set_states
from mlc_serve.compiler.kernels.cpu.recurrent.token_shift import dynamic_token_mix, last_rows, token_mix
from mlc_serve.compiler.kernels.cpu.recurrent.wkv6 import wkv6
from mlc_serve.models.parts.recurrent import RecurrentShape
from mlc_serve.models.recurrent_layers import WKV6Operands
from mlc_serve.models.rnn_state import RNNState
from mlc_serve.quantization.scheme import Scheme

Kernel = Callable[..., tirx.PrimFunc]

# A model has many layers of few shapes: each kernel is parsed once.
_mix: Kernel = lru_cache(maxsize=None)(token_mix)
_dynamic_mix: Kernel = lru_cache(maxsize=None)(dynamic_token_mix)
_last_rows: Kernel = lru_cache(maxsize=None)(last_rows)
_product: Kernel = lru_cache(maxsize=None)(low_rank_product)
_tanh_product: Kernel = lru_cache(maxsize=None)(low_rank_tanh)
_short_conv: Kernel = lru_cache(maxsize=None)(short_conv)
_wkv6: Kernel = lru_cache(maxsize=None)(wkv6)
_group_norm: Kernel = lru_cache(maxsize=None)(gated_group_norm)
_add_gated: Kernel = lru_cache(maxsize=None)(add_gated)


class GatedGroupNorm(nn.Module):
    """Layer normalization of each head, with a float32 weight and bias, times the SiLU of gates."""

    def __init__(self, num_heads: int, width: int, epsilon: float) -> None:
        self.num_heads, self.width, self.epsilon = num_heads, width, epsilon
        self.weight = nn.Parameter([width], "float32")
        self.bias = nn.Parameter([width], "float32")

    def forward(self, x: nn.Tensor, gates: nn.Tensor) -> nn.Tensor:
        kernel = _group_norm(self.num_heads, self.width // self.num_heads, self.epsilon)
        return _call(kernel, "gated_group_norm", [x, gates, self.weight, self.bias], x)


class CPURecurrentLayers:
    """Implements models.recurrent_layers.RecurrentLayers."""

    def __init__(self, scheme: Scheme) -> None:
        is_narrow = scheme.groups is not None or scheme.weight_dtype == "float16"
        self.low_rank_dtype = "float16" if is_narrow else "float32"

    def mix(self, x: nn.Tensor, last: nn.Tensor, share: nn.Parameter) -> nn.Tensor:
        return _call(_mix(_width(x)), "token_mix", [x, last, share], x)

    def dynamic_mix(
        self, x: nn.Tensor, last: nn.Tensor, share: nn.Parameter, changes: nn.Tensor, number: int
    ) -> nn.Tensor:
        width = _width(x)
        kernel = _dynamic_mix(width, _width(changes) // width, number)
        return _call(kernel, "dynamic_token_mix", [x, last, share, changes], x)

    def last_rows(self, x: nn.Tensor, last: nn.Tensor) -> nn.Tensor:
        return _call(_last_rows(_width(x)), "last_rows", [x, last], last)

    def low_rank_product(self, x: nn.Tensor, weight: nn.Parameter, *, tanh: bool = False) -> nn.Tensor:
        shape = tuple(int(extent) for extent in weight.shape)
        parts, depth, columns = shape if len(shape) == 3 else (1, *shape)
        kernel = (_tanh_product if tanh else _product)((parts, depth, columns), str(weight.dtype), shape)
        out = nn.Tensor.placeholder([1, x.shape[1], parts * columns], "float32")
        return _call(kernel, "low_rank_product", [x, weight], out)

    def wkv6(self, operands: WKV6Operands, state: nn.Tensor) -> tuple[nn.Tensor, nn.Tensor]:
        num_heads, head_dim = (int(extent) for extent in operands.bonus.shape)
        like = [_like(operands.value), _like(state)]
        out, new = nn.op.tensor_ir_op(_wkv6(num_heads, head_dim), "wkv6", [*operands, state], like)
        return out, new

    def gated_group_norm(self, num_heads: int, width: int, epsilon: float) -> GatedGroupNorm:
        return GatedGroupNorm(num_heads, width, epsilon)

    def add_gated(self, residual: nn.Tensor, x: nn.Tensor, gate: nn.Tensor) -> nn.Tensor:
        return _call(_add_gated(_width(x)), "add_gated", [residual, x, gate], x)

    def short_conv(
        self, x: nn.Tensor, weight: nn.Parameter, bias: nn.Parameter | None, state: nn.Tensor
    ) -> tuple[nn.Tensor, nn.Tensor]:
        width, _, taps = (int(extent) for extent in weight.shape)
        kernel = _short_conv(width, taps, has_bias=bias is not None)
        operands = [x, weight, weight if bias is None else bias, state]
        like = [nn.Tensor.placeholder([1, x.shape[1], width], "float32"), _like(state)]
        out, new = nn.op.tensor_ir_op(kernel, "short_conv", operands, like)
        return out, new

    def new_state(self, shape: RecurrentShape, max_batch_size: tirx.Var, max_history: tirx.Var) -> RNNState:
        builder = relax.BlockBuilder.current()
        numbered = list(enumerate(shape.states))
        getters = [builder.add_func(get_states(state), f"rnn_state_get_{i}") for i, state in numbered]
        setters = [builder.add_func(set_states(state), f"rnn_state_set_{i}") for i, state in numbered]
        zeros = [builder.emit(relax.op.zeros(state, "float32")) for state in shape.states]
        call = relax.call_pure_packed(
            "vm.builtin.rnn_state_create",
            relax.prim_value(shape.num_layers),
            max_batch_size,
            max_history,
            relax.Tuple(getters),
            relax.Tuple(setters),
            relax.Tuple(zeros),
            ty_args=[relax.AnyType()],
        )
        return RNNState(_expr=call, _name="rnn_state")


def _call(kernel: tirx.PrimFunc, name: str, operands: list[nn.Tensor], like: nn.Tensor) -> nn.Tensor:
    return nn.op.tensor_ir_op(kernel, name, operands, _like(like))


def _like(x: nn.Tensor) -> nn.Tensor:
    return nn.Tensor.placeholder(x.shape, "float32")


def _width(x: nn.Tensor) -> int:
    return int(x.shape[2])
