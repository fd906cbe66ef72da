"""Writes small EAGLE draft models in the layouts that exist, for targets of `tests.checkpoints`, and computes
what they should, in NumPy.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from tests.checkpoints import Shape

Array = NDArray[np.float32]
Tensors = dict[str, NDArray[Any]]
Layout = Literal["eagle", "speculators"]

_EPSILON = 1e-5


@dataclass(frozen=True)
class Draft:
    """A draft model for a target of this shape. Its sizes are those of the target's layers. The fields are
    those of `models.eagle.Eagle`.
    """

    target: Shape
    generation: Literal[1, 3]
    num_taps: int = 1
    draft_vocab_size: int | None = None
    bias: bool = False
    state_norms: Literal["joint", "each"] | None = None
    normed_residual: bool = False
    feeds_normed: bool = False
    has_embedding: bool = False
    has_head: bool = False
    has_head_norms: bool = False
    seed: int = 0
    keys: dict[str, Any] = field(default_factory=dict)  # more keys of the configuration

    @property
    def head_dim(self) -> int:
        """The width of a head."""
        return self.target.head_dim or self.target.hidden_size // self.target.num_heads

    def tensors(self) -> Tensors:
        """Random tensors, under the names of the format `speculators`."""
        return {name: self._values(name, shape) for name, shape in self._shapes().items()} | self._maps()

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        target, hidden, layer = self.target, self.target.hidden_size, "layers.0."
        width = hidden if self.generation == 1 else 2 * hidden
        fc_width = 2 * hidden if self.generation == 1 else self.num_taps * hidden
        query, key = target.num_heads * self.head_dim, target.num_kv_heads * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {
            "fc.weight": (hidden, fc_width),
            f"{layer}self_attn.q_proj.weight": (query, width),
            f"{layer}self_attn.k_proj.weight": (key, width),
            f"{layer}self_attn.v_proj.weight": (key, width),
            f"{layer}self_attn.o_proj.weight": (hidden, query),
            f"{layer}post_attention_layernorm.weight": (hidden,),
            f"{layer}mlp.gate_proj.weight": (target.intermediate_size, hidden),
            f"{layer}mlp.up_proj.weight": (target.intermediate_size, hidden),
            f"{layer}mlp.down_proj.weight": (hidden, target.intermediate_size),
        }
        if self.bias:
            shapes["fc.bias"] = (hidden,)
        if self.generation == 3:
            norms = (f"{layer}input_layernorm", f"{layer}hidden_norm", "norm")
            shapes |= {f"{name}.weight": (hidden,) for name in norms}
        if self.state_norms == "joint":
            shapes["input_norm.weight"] = (fc_width,)
        if self.state_norms == "each":
            shapes |= {f"fc_norm.{number}.weight": (hidden,) for number in range(self.num_taps)}
        if self.has_head_norms:
            shapes |= {f"{layer}self_attn.{part}_norm.weight": (self.head_dim,) for part in "qk"}
        if self.has_embedding:
            shapes["embed_tokens.weight"] = (target.vocab_size, hidden)
        if self.has_head:
            shapes["lm_head.weight"] = (self.draft_vocab_size or target.vocab_size, hidden)
        return shapes

    def _maps(self) -> Tensors:
        """Which tokens a smaller vocabulary has."""
        if self.draft_vocab_size is None:
            return {}
        rng = np.random.default_rng(self.seed)
        known = np.sort(rng.permutation(self.target.vocab_size)[: self.draft_vocab_size])
        is_known = np.zeros(self.target.vocab_size, bool)
        is_known[known] = True
        return {"d2t": known - np.arange(self.draft_vocab_size), "t2d": is_known}

    def _values(self, name: str, shape: tuple[int, ...]) -> Array:
        normal = np.random.default_rng([self.seed, zlib.crc32(name.encode())]).standard_normal(
            shape, dtype=np.float32
        )
        if "norm" in name:
            return (1 + 0.2 * normal).astype(np.float32)
        return 0.1 * normal if name.endswith("bias") else normal * shape[1] ** -0.5

    def config(self, layout: Layout) -> dict[str, Any]:
        """What config.json says."""
        target = self.target
        layer: dict[str, Any] = {
            "model_type": "qwen3" if self.has_head_norms else "llama",
            "hidden_size": target.hidden_size,
            "intermediate_size": target.intermediate_size,
            "num_hidden_layers": 1,
            "num_attention_heads": target.num_heads,
            "num_key_value_heads": target.num_kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": target.vocab_size,
            "max_position_embeddings": target.context_window_size,
            "rms_norm_eps": _EPSILON,
            "rope_theta": target.rope_theta,
        }
        own: dict[str, Any] = {
            "norm_before_residual": self.normed_residual,
            "norm_before_fc": self.state_norms == "joint",
            "fc_norm": self.state_norms == "each",
            "norm_output": self.feeds_normed,
        }
        if self.draft_vocab_size is not None:
            own["draft_vocab_size"] = self.draft_vocab_size
        if layout == "eagle":
            biased = {} if self.generation == 3 else {"bias": self.bias}
            return layer | biased | (own if self.generation == 3 else {}) | self.keys
        kind = {1: "eagle", 3: "eagle3"}[self.generation]
        return {"speculators_model_type": kind, "transformer_layer_config": layer} | own | self.keys


# For targets of the default shape, which several tests compile. Tests that load these share their libraries.
FIRST = Draft(Shape(), 1, bias=True)
THIRD = Draft(
    Shape(),
    3,
    num_taps=3,
    draft_vocab_size=96,
    state_norms="joint",
    has_head=True,
    keys={"eagle_aux_hidden_state_layer_ids": [2, 0, 1]},
)


def write_draft(path: Path, draft: Draft, layout: Layout = "eagle", tensors: Tensors | None = None) -> Path:
    """Write a draft model, whose tensors are random if none are given, and return the directory."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(draft.config(layout)))
    save_file(stored_tensors(draft, layout, tensors or draft.tensors()), path / "model.safetensors")
    return path


def stored_tensors(draft: Draft, layout: Layout, tensors: Tensors) -> Tensors:
    """The tensors under the names of a layout."""
    is_middle = layout == "eagle" and draft.generation == 3
    own = "midlayer." if is_middle else "layers.0."
    return {name.replace("layers.0.", own): tensor for name, tensor in tensors.items()}


class Reference:
    """A draft model by its equations, in NumPy, of one sequence."""

    def __init__(self, draft: Draft, tensors: Mapping[str, NDArray[Any]], target: Path) -> None:
        """`target` is the directory of the target."""
        self._draft, self._tensors = draft, tensors
        self._target = load_file(target / "model.safetensors")

    def project(self, states: Array) -> Array:
        """The target's states `(n, num_taps * h)` -> what pairs are made of `(n, h)`."""
        draft = self._draft
        if draft.generation == 1:
            return _normed(states, self._target["model.norm.weight"])
        if draft.state_norms == "joint":
            states = _normed(states, self._tensors["input_norm.weight"])
        if draft.state_norms == "each":
            parts = np.split(states, draft.num_taps, axis=1)
            states = np.concatenate(
                [_normed(part, self._tensors[f"fc_norm.{i}.weight"]) for i, part in enumerate(parts)], axis=1
            )
        return self._fc(states)

    def chain(self, token_ids: Sequence[int], states: Array, num_own: int) -> Array:
        """The logits after the last `num_own` + 1 pairs, `(num_own + 1, vocab)`. Pairs have these tokens, and
        the states `(n, h)` before them; those of the last `num_own` pairs are the draft model's own.
        """
        rows = self._rows(token_ids[: len(states)], states)
        logits = [self._logits(rows[-1])]
        for count in range(len(states) + 1, len(states) + num_own + 1):
            last = _normed(rows[-1], self._tensors["norm.weight"]) if self._draft.feeds_normed else rows[-1]
            states = np.concatenate([states, last[None]])
            rows = self._rows(token_ids[:count], states)
            logits.append(self._logits(rows[-1]))
        return np.stack(logits)

    def _rows(self, token_ids: Sequence[int], states: Array) -> Array:
        """The rows z of pairs."""
        tensors, layer = self._tensors, "layers.0."
        table = tensors.get("embed_tokens.weight", self._target["model.embed_tokens.weight"])
        embeds = table[list(token_ids)]
        if self._draft.generation == 1:
            residual = taken = self._fc(np.concatenate([embeds, states], axis=1))
        else:
            normed = _normed(states, tensors[f"{layer}hidden_norm.weight"])
            residual = normed if self._draft.normed_residual else states
            taken = np.concatenate(
                [_normed(embeds, tensors[f"{layer}input_layernorm.weight"]), normed], axis=1
            )
        rows = residual + self._attended(taken)
        inner = _normed(rows, tensors[f"{layer}post_attention_layernorm.weight"])
        gate = inner @ tensors[f"{layer}mlp.gate_proj.weight"].T
        up = inner @ tensors[f"{layer}mlp.up_proj.weight"].T
        result: Array = rows + (gate / (1 + np.exp(-gate)) * up) @ tensors[f"{layer}mlp.down_proj.weight"].T
        return result

    def _fc(self, rows: Array) -> Array:
        result: Array = rows @ self._tensors["fc.weight"].T + self._tensors.get("fc.bias", np.float32(0))
        return result

    def _attended(self, rows: Array) -> Array:
        draft, name = self._draft, "layers.0.self_attn."
        q, k, v = (
            (rows @ self._tensors[f"{name}{part}_proj.weight"].T).reshape(len(rows), -1, draft.head_dim)
            for part in "qkv"
        )
        if draft.has_head_norms:
            q, k = (
                _normed(x, self._tensors[f"{name}{part}_norm.weight"])
                for x, part in zip((q, k), "qk", strict=True)
            )
        q, k = _rotated(q, draft.target.rope_theta), _rotated(k, draft.target.rope_theta)
        repeats = draft.target.num_heads // draft.target.num_kv_heads
        k, v = np.repeat(k, repeats, axis=1), np.repeat(v, repeats, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, k) * draft.head_dim**-0.5
        scores = np.where(np.tri(len(rows), dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", weights, v).reshape(len(rows), -1)
        result: Array = mixed @ self._tensors[f"{name}o_proj.weight"].T
        return result

    def _logits(self, row: Array) -> Array:
        """The logits of the target's tokens, for one row."""
        if self._draft.generation == 3:
            row = _normed(row, self._tensors["norm.weight"])
        tied = self._target["model.embed_tokens.weight"]
        head = self._tensors.get("lm_head.weight", self._target.get("lm_head.weight", tied))
        if "d2t" not in self._tensors:
            result: Array = head @ row
            return result
        logits = np.full(self._draft.target.vocab_size, -np.inf, np.float32)
        offsets = self._tensors["d2t"]
        logits[offsets + np.arange(len(offsets))] = head @ row
        return logits


def _normed(rows: Array, weight: NDArray[Any]) -> Array:
    result: Array = rows / np.sqrt(np.square(rows).mean(axis=-1, keepdims=True) + _EPSILON) * weight
    return result


def _rotated(heads: Array, theta: float) -> Array:
    """Heads `(n, num_heads, head_dim)` at the positions 0 to n - 1."""
    half = heads.shape[2] // 2
    angles = np.arange(len(heads))[:, None] * theta ** -(np.arange(half) / half)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    first, second = heads[..., :half], heads[..., half:]
    result: Array = np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=2)
    return result.astype(np.float32)
