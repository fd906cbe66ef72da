"""The layers of recurrent models, for the CPU. Activations and states are float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from tvm import relax, tirx
from tvm.relax.frontend import nn

from mlc_serve.compiler.kernels.cpu.recurrent.causal_conv import Convolution, causal_conv
from mlc_serve.compiler.kernels.cpu.recurrent.gated_delta import gated_delta
from mlc_serve.compiler.kernels.cpu.recurrent.gates import GatedNorm, add_gated, gated, gated_norm
from mlc_serve.compiler.kernels.cpu.recurrent.low_rank import low_rank_product, low_rank_tanh
from mlc_serve.compiler.kernels.cpu.recurrent.states import get_states, set_states
from mlc_serve.compiler.kernels.cpu.recurrent.token_shift import dynamic_token_mix, last_rows, token_mix
from mlc_serve.compiler.kernels.cpu.recurrent.wkv6 import wkv6
from mlc_serve.models.parts.gated_delta import DeltaHeads
from mlc_serve.models.parts.norm import Norm
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
_causal_conv: Kernel = lru_cache(maxsize=None)(causal_conv)
_wkv6: Kernel = lru_cache(maxsize=None)(wkv6)
_gated_norm: Kernel = lru_cache(maxsize=None)(gated_norm)
_gated: Kernel = lru_cache(maxsize=None)(gated)
_gated_delta: Kernel = lru_cache(maxsize=None)(gated_delta)
_add_gated: Kernel = lru_cache(maxsize=None)(add_gated)


class HeadNorm(nn.Module):
    """Implements RecurrentLayers.gated_norm, with a float32 weight and perhaps a bias."""

    def __init__(self, spec: Norm, num_heads: int, *, shared: bool) -> None:
        self.spec, self.num_heads, self.shared = spec, num_heads, shared
        width = spec.width if shared else spec.width * num_heads
        self.weight = nn.Parameter([width], "float32")
        self.bias = nn.Parameter([width], "float32") if spec.bias else None

    def forward(self, x: nn.Tensor, gates: nn.Tensor) -> nn.Tensor:
        kernel = _gated_norm(GatedNorm(self.spec, self.num_heads, self.shared, _width(gates)))
        operands = [x, gates, self.weight, self.weight if self.bias is None else self.bias]
        return _call(kernel, "gated_norm", operands, x)


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

    def gated_norm(self, spec: Norm, num_heads: int, *, shared: bool = False) -> HeadNorm:
        return HeadNorm(spec, num_heads, shared=shared)

    def add_gated(self, residual: nn.Tensor, x: nn.Tensor, gate: nn.Tensor) -> nn.Tensor:
        return _call(_add_gated(_width(x)), "add_gated", [residual, x, gate], x)

    def causal_conv(
        self,
        x: nn.Tensor,
        weight: nn.Parameter,
        bias: nn.Parameter | None,
        state: nn.Tensor,
        *,
        is_gated: bool,
    ) -> tuple[nn.Tensor, nn.Tensor]:
        width, _, taps = (int(extent) for extent in weight.shape)
        kernel = _causal_conv(Convolution(width, _width(x), taps, bias is not None, is_gated))
        operands = [x, weight, weight if bias is None else bias, state]
        like = [nn.Tensor.placeholder([1, x.shape[1], width], "float32"), _like(state)]
        out, new = nn.op.tensor_ir_op(kernel, "causal_conv", operands, like)
        return out, new

    def gated_delta(
        self,
        heads: DeltaHeads,
        qkv: nn.Tensor,
        ba: nn.Tensor,
        log_decay: nn.Parameter,
        bias: nn.Parameter,
        state: nn.Tensor,
    ) -> tuple[nn.Tensor, nn.Tensor]:
        operands = [qkv, ba, log_decay, bias, state]
        like = [nn.Tensor.placeholder([1, qkv.shape[1], heads.v_width], "float32"), _like(state)]
        out, new = nn.op.tensor_ir_op(_gated_delta(heads), "gated_delta", operands, like)
        return out, new

    def gated(self, x: nn.Tensor, gate: nn.Tensor) -> nn.Tensor:
        return _call(_gated(_width(x), str(x.dtype)), "gated", [x, gate], x)

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
