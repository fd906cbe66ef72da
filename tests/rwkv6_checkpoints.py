"""Writes small RWKV-6 checkpoints with random weights, and computes their logprobs with NumPy in float64, by
the equations of Peng et al., "Eagle and Finch: RWKV with Matrix-Valued States and Dynamic Recurrence" (2024).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Array = Any  # of NumPy, whose types don't follow its arithmetic

MIXED = ("w", "k", "v", "r", "g")


@dataclass(frozen=True)
class RWKV6Shape:
    """The sizes of a model. The ranks are those that the published models of other widths than 4096 have."""

    hidden_size: int = 64
    num_layers: int = 2
    head_size: int = 16
    intermediate_size: int = 224
    vocab_size: int = 300
    mix_rank: int = 32
    decay_rank: int = 64

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The names and the shapes of a checkpoint's tensors."""
        hidden = self.hidden_size
        yield "rwkv.embeddings.weight", (self.vocab_size, hidden)
        yield from _norm("rwkv.blocks.0.pre_ln", hidden)
        for layer in range(self.num_layers):
            for name, dimensions in self._layer_tensors():
                yield f"rwkv.blocks.{layer}.{name}", dimensions
        yield from _norm("rwkv.ln_out", hidden)
        yield "head.weight", (self.vocab_size, hidden)

    def _layer_tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        hidden, inner = self.hidden_size, self.intermediate_size
        for norm in ("ln1", "ln2", "attention.ln_x"):
            yield from _norm(norm, hidden)
        for part in ("x", *MIXED):
            yield f"attention.time_maa_{part}", (1, 1, hidden)
        yield "attention.time_maa_w1", (hidden, 5 * self.mix_rank)
        yield "attention.time_maa_w2", (5, self.mix_rank, hidden)
        yield "attention.time_decay", (1, 1, hidden)
        yield "attention.time_decay_w1", (hidden, self.decay_rank)
        yield "attention.time_decay_w2", (self.decay_rank, hidden)
        yield "attention.time_faaaa", (hidden // self.head_size, self.head_size)
        for part in ("receptance", "key", "value", "gate", "output"):
            yield f"attention.{part}.weight", (hidden, hidden)
        for part in ("k", "r"):
            yield f"feed_forward.time_maa_{part}", (1, 1, hidden)
        yield "feed_forward.key.weight", (inner, hidden)
        yield "feed_forward.receptance.weight", (hidden, hidden)
        yield "feed_forward.value.weight", (hidden, inner)


def write_rwkv6(directory: Path, shape: RWKV6Shape, seed: int = 0) -> dict[str, Array]:
    """Fill a directory with a configuration, a vocabulary and weights, and return the weights."""
    directory.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["Rwkv6ForCausalLM"],
        "model_type": "rwkv6",
        "attention_hidden_size": shape.hidden_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": 64,
        "head_size": shape.head_size,
        "head_size_divisor": 8,
        "layer_norm_epsilon": 1e-5,
        "rescale_every": 6,
        "tie_word_embeddings": False,
        "vocab_size": shape.vocab_size,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "torch_dtype": "float32",
    }
    (directory / "config.json").write_text(json.dumps(config))
    entries = [bytes([byte]) for byte in range(256)] + [b"ab", b"abc", "ä".encode(), b"\n\n"]
    lines = "".join(vocabulary_lines(entries))
    (directory / "rwkv_vocab_v20230424.txt").write_text(lines, encoding="utf-8")
    weights = {name: _values(name, dimensions, seed) for name, dimensions in shape.tensors()}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return weights


def vocabulary_lines(entries: Sequence[bytes]) -> Iterator[str]:
    """The lines of a vocabulary's file, with ids from 1 on."""
    for number, entry in enumerate(entries, 1):
        yield f"{number} {_literal(entry)} {len(entry)}\n"


def _literal(entry: bytes) -> str:
    """An entry as Python's literal of a text, or of bytes if it is no valid text."""
    try:
        return repr(entry.decode())
    except UnicodeDecodeError:
        return repr(entry)


def _norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _values(name: str, dimensions: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Values of which every part of a layer matters, and depends on the token."""
    normal = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(dimensions)
    if "time_maa_w" in name or "time_decay_w" in name:
        values = normal * 0.7 * dimensions[-2] ** -0.5 if len(dimensions) > 1 else normal
    elif "time_maa" in name:
        values = 0.5 + 0.3 * normal
    elif name.endswith("time_decay"):
        values = -1.5 + normal
    elif name.endswith("bias"):
        values = 0.1 * normal
    elif "ln" in name:
        values = 1 + 0.1 * normal
    else:
        values = normal * dimensions[-1] ** -0.5
    return values.astype(np.float32)


# ---------------------------------------------------------------- the equations


def reference_logprobs(weights: dict[str, Array], shape: RWKV6Shape, ids: Sequence[int]) -> Array:
    """The logprobs after each token of a sequence, `(len(ids), vocab)`."""
    wide = {name: value.astype(np.float64) for name, value in weights.items()}
    x = _layer_norm(wide["rwkv.embeddings.weight"][list(ids)], wide, "rwkv.blocks.0.pre_ln")
    for layer in range(shape.num_layers):
        block = f"rwkv.blocks.{layer}"
        x = x + _time_mix(_layer_norm(x, wide, f"{block}.ln1"), wide, f"{block}.attention", shape)
        x = x + _channel_mix(_layer_norm(x, wide, f"{block}.ln2"), wide, f"{block}.feed_forward")
    logits = _layer_norm(x, wide, "rwkv.ln_out") @ wide["head.weight"].T
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def _time_mix(x: Array, weights: dict[str, Array], name: str, shape: RWKV6Shape) -> Array:
    before = _shifted(x) - x
    inner = np.tanh((x + before * weights[f"{name}.time_maa_x"][0]) @ weights[f"{name}.time_maa_w1"])
    changes = np.split(inner, 5, axis=1)
    mixed = {
        part: x
        + before * (weights[f"{name}.time_maa_{part}"][0] + change @ weights[f"{name}.time_maa_w2"][i])
        for i, (part, change) in enumerate(zip(MIXED, changes, strict=True))
    }
    r, k, v = (
        mixed[part] @ weights[f"{name}.{long}.weight"].T
        for part, long in (("r", "receptance"), ("k", "key"), ("v", "value"))
    )
    gate = mixed["g"] @ weights[f"{name}.gate.weight"].T
    low_rank = np.tanh(mixed["w"] @ weights[f"{name}.time_decay_w1"]) @ weights[f"{name}.time_decay_w2"]
    decay = np.exp(-np.exp(weights[f"{name}.time_decay"][0] + low_rank))
    r, k, v, decay = (part.reshape(len(x), -1, shape.head_size) for part in (r, k, v, decay))
    out = _recurrence(r, k, v, decay, weights[f"{name}.time_faaaa"])
    out = (out - out.mean(axis=2, keepdims=True)) / np.sqrt(out.var(axis=2, keepdims=True) + 64e-5)
    out = out.reshape(x.shape) * weights[f"{name}.ln_x.weight"] + weights[f"{name}.ln_x.bias"]
    return (out * gate / (1 + np.exp(-gate))) @ weights[f"{name}.output.weight"].T


def _recurrence(r: Array, k: Array, v: Array, decay: Array, bonus: Array) -> Array:
    """All `(tokens, heads, head_size)`, except for the bonus `(heads, head_size)`."""
    state = np.zeros((*bonus.shape, bonus.shape[1]))
    out = np.empty_like(v)
    for t in range(len(r)):
        present = k[t][:, :, None] * v[t][:, None, :]
        out[t] = np.einsum("hk,hkv->hv", r[t], state + bonus[:, :, None] * present)
        state = state * decay[t][:, :, None] + present
    return out


def _channel_mix(x: Array, weights: dict[str, Array], name: str) -> Array:
    before = _shifted(x) - x
    key = (x + before * weights[f"{name}.time_maa_k"][0]) @ weights[f"{name}.key.weight"].T
    gate = (x + before * weights[f"{name}.time_maa_r"][0]) @ weights[f"{name}.receptance.weight"].T
    return (np.maximum(key, 0) ** 2 @ weights[f"{name}.value.weight"].T) / (1 + np.exp(-gate))


def _shifted(x: Array) -> Array:
    """The row before each row; zeros before the first."""
    return np.concatenate([np.zeros_like(x[:1]), x[:-1]])


def _layer_norm(x: Array, weights: dict[str, Array], name: str) -> Array:
    centred = x - x.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]
