"""What a library says about itself: MLC's `_metadata`, with the layout of each parameter beside its shape."""

from __future__ import annotations

from typing import Any

from tvm.relax.frontend import nn

from mlc_serve.compiler.kernels.cpu.attention.pages import PAGE_SIZE
from mlc_serve.models.architecture import Architecture
from mlc_serve.models.encoder import Encoder
from mlc_serve.models.medusa import MedusaHeads
from mlc_serve.quantization.scheme import Scheme


def describe(
    model_type: str,
    architecture: Architecture,
    scheme: Scheme,
    params: list[tuple[str, nn.Parameter]],
    bytes_per_value: tuple[int, int],
    prefill_chunk_size: int,
    max_batch_size: int,
) -> dict[str, Any]:
    """The metadata of a library. Parameters are listed in the order in which its functions take them.
    `bytes_per_value` holds the size of a value of an activation, and that of a value in the KV cache.
    """
    activation_bytes, cache_bytes = bytes_per_value
    window = architecture.window
    return {
        "model_type": model_type,
        "quantization": scheme.name,
        "context_window_size": architecture.context_window_size,
        "sliding_window_size": -1 if window is None else window.size,
        "attention_sink_size": -1 if window is None else window.sinks,
        "prefill_chunk_size": prefill_chunk_size,
        "tensor_parallel_shards": 1,
        "pipeline_parallel_stages": 1,
        "disaggregation": False,
        **_sequence_state(architecture, cache_bytes),
        "max_batch_size": max_batch_size,
        "vocab_size": architecture.vocab_size,
        "active_vocab_size": architecture.vocab_size,
        "model_task": "chat",
        "memory_usage": {
            "batch_prefill": activation_bytes * prefill_chunk_size * architecture.workspace_width
        },
        "params": [_parameter(name, param) for name, param in params],
    }


def describe_encoder(
    model_type: str,
    encoder: Encoder,
    scheme: Scheme,
    params: list[tuple[str, nn.Parameter]],
    prefill_chunk_size: int,
    max_batch_size: int,
) -> dict[str, Any]:
    """The metadata of an encoder's library. Its passes have at most `prefill_chunk_size` tokens."""
    return {
        "model_type": model_type,
        "quantization": scheme.name,
        "context_window_size": encoder.context_window_size,
        "first_position": encoder.first_position,
        "prefill_chunk_size": prefill_chunk_size,
        "max_batch_size": max_batch_size,
        "vocab_size": encoder.vocab_size,
        "model_task": "embedding",
        "embedding_size": encoder.hidden_size,
        "memory_usage": {"encode": 4 * prefill_chunk_size * encoder.workspace_width},
        "params": [_parameter(name, param) for name, param in params],
    }


def describe_heads(
    model_type: str,
    heads: MedusaHeads,
    scheme: Scheme,
    params: list[tuple[str, nn.Parameter]],
    max_batch_size: int,
) -> dict[str, Any]:
    """The metadata of a library of heads. Their passes have at most `max_batch_size` states."""
    return {
        "model_type": model_type,
        "quantization": scheme.name,
        "num_heads": heads.num_heads,
        "max_batch_size": max_batch_size,
        "vocab_size": heads.vocab_size,
        "model_task": "draft",
        "hidden_size": heads.hidden_size,
        "memory_usage": {"head": 4 * max_batch_size * heads.workspace_width},
        "params": [_parameter(name, param) for name, param in params],
    }


def _sequence_state(architecture: Architecture, cache_bytes: int) -> dict[str, Any]:
    """What a sequence's state is, and its sizes."""
    attention, recurrence = architecture.attention, architecture.recurrence
    keys_and_values = {
        "num_hidden_layers": attention.num_layers,
        "num_attention_heads": attention.num_q_heads,
        "num_key_value_heads": attention.num_kv_heads,
        "head_dim": attention.head_dim,
        "dtype_bytes": cache_bytes,
        "page_size": PAGE_SIZE,
        **({} if attention.latent is None else {"page_parts": 1}),  # instead of two: keys and values
    }
    if recurrence is None:
        return {"kv_state_kind": "kv_cache", "kv_cache": keys_and_values}
    states = {
        "num_hidden_layers": recurrence.num_layers,
        "bytes_per_sequence": recurrence.bytes_per_sequence,
    }
    if not attention.layers:
        return {"kv_state_kind": "rnn_state", "rnn_state": states}
    return {"kv_state_kind": "hybrid", "kv_cache": keys_and_values, "rnn_state": states}


def _parameter(name: str, param: nn.Parameter) -> dict[str, Any]:
    shape = [int(extent) for extent in param.shape]
    return {
        "name": name,
        "shape": shape,
        "dtype": str(param.dtype),
        "layout": param.attrs.get("layout", "plain"),
        "logical_shape": param.attrs.get("logical_shape", shape),
        "preprocs": [],
        "pipeline_stages": [0],
    }
