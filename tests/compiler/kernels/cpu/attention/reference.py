"""Attention by its definition, and pages of keys and values that NumPy has filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlc_serve.compiler.kernels.cpu.attention.heads import Heads

PAGE_SIZE = 16
Floats = NDArray[Any]  # of the type that keys and values have
Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Rules:
    """What a query sees, and how products become scores. See AttentionLayer and AttentionShape."""

    causal: bool = True
    scale: float | None = None
    window: int | None = None
    soft_cap: float | None = None
    sinks: Floats | None = None


def attend(q: Floats, k: Floats, v: Floats, rules: Rules = Rules()) -> Floats:
    """Q `(n, hq, d)`, K `(m, hkv, d)` and V `(m, hkv, dv)` -> `(n, hq, dv)`. Queries are the last n
    of the m positions.
    """
    group = q.shape[1] // k.shape[1]
    q = q.astype(np.float64)
    k, v = (np.repeat(x.astype(np.float64), group, 1) for x in (k, v))
    scale = q.shape[2] ** -0.5 if rules.scale is None else rules.scale
    scores = np.einsum("nhd,mhd->hnm", q, k) * scale
    if rules.soft_cap is not None:
        scores = np.tanh(scores / rules.soft_cap) * rules.soft_cap
    scores = np.where(_seen(len(q), len(k), rules), scores, -np.inf)
    sinks = np.full((len(scores), 1, 1), -np.inf) if rules.sinks is None else rules.sinks[:, None, None]
    peak = np.maximum(scores.max(-1, keepdims=True), sinks)
    weights = np.exp(scores - peak)
    total = weights.sum(-1, keepdims=True) + np.exp(sinks - peak)
    output: Floats = np.einsum("hnm,mhd->nhd", weights / total, v).astype(np.float32)
    return output


def _seen(num_queries: int, num_keys: int, rules: Rules) -> NDArray[np.bool_]:
    distance = np.arange(num_queries)[:, None] + num_keys - num_queries - np.arange(num_keys)
    seen = distance >= 0 if rules.causal else np.ones_like(distance, bool)
    return seen if rules.window is None else seen & (distance < rules.window)


def rotated(x: Floats, theta: float = 1e4) -> Floats:
    """X `(n, h, d)` turned by the positions from 0 on."""
    half = x.shape[-1] // 2
    angles = np.arange(len(x))[:, None, None] * theta ** -(np.arange(half) / half)
    first, second = x[..., :half].astype(np.float64), x[..., half:].astype(np.float64)
    cosine, sine = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)


def indptr(lengths: Sequence[int]) -> Ints:
    """Where each sequence begins in a ragged batch, and where the last ends."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


@dataclass
class PagedKeys:
    """Keys and values of sequences, and the pages that hold them in any order; unused slots hold NaN."""

    keys: list[Floats]
    values: list[Floats]
    pages: Floats
    first_pages: Ints
    page_ids: Ints
    slots: Ints

    @property
    def table(self) -> tuple[Ints, Ints, Ints]:
        """The page table, as kernels take it."""
        return self.first_pages, self.page_ids, np.array([len(keys) for keys in self.keys], np.int32)


def paged_keys(lengths: Sequence[int], num_heads: int, head_dim: int, dtype: str = "float32") -> PagedKeys:
    """Random keys and values of sequences of these lengths, of `dtype`."""
    rng = np.random.default_rng(5)
    counts = [-(-length // PAGE_SIZE) for length in lengths]
    order = rng.permutation(sum(counts) + 3)[: sum(counts)].astype(np.int32)
    first = indptr(counts)
    keys, values = (
        [rng.standard_normal((length, num_heads, head_dim)).astype(dtype) for length in lengths]
        for _ in range(2)
    )
    slots = np.array(
        [
            order[first[b] + i // PAGE_SIZE] * PAGE_SIZE + i % PAGE_SIZE
            for b, length in enumerate(lengths)
            for i in range(length)
        ],
        np.int32,
    )
    pages = np.full((sum(counts) + 3, 2, num_heads, PAGE_SIZE * head_dim), np.nan, dtype)
    write(pages, np.concatenate(keys), np.concatenate(values), slots)
    return PagedKeys(keys, values, pages, first, order, slots)


def paged_latents(lengths: Sequence[int], heads: Heads, dtype: str = "float32") -> PagedKeys:
    """The same for keys whose last values are the values, and lie position by position."""
    cache = paged_keys(lengths, 1, heads.dim, dtype)
    by_position = np.full((len(cache.pages), 1, 1, PAGE_SIZE * heads.dim), np.nan, dtype)
    write_latents(by_position, np.concatenate(cache.keys), cache.slots)
    values = [keys[:, :, heads.first_value :] for keys in cache.keys]
    return replace(cache, pages=by_position, values=values)


def write_latents(pages: Floats, keys: Floats, slots: Ints) -> None:
    """Write keys `(s, 1, d)` to their slots of pages `(16, d)`."""
    pages.reshape(len(pages), PAGE_SIZE, -1)[slots // PAGE_SIZE, slots % PAGE_SIZE] = keys[:, 0]


def write(pages: Floats, keys: Floats, values: Floats, slots: Ints) -> None:
    """Write K and V `(s, hkv, d)` to their slots: K of a page is `(d, 16)`, V `(16, d)`."""
    num_pages, _, num_heads, size = pages.shape
    page, position = slots // PAGE_SIZE, slots % PAGE_SIZE
    by_dimension = pages[:, 0].reshape(num_pages, num_heads, size // PAGE_SIZE, PAGE_SIZE)
    by_position = pages[:, 1].reshape(num_pages, num_heads, PAGE_SIZE, size // PAGE_SIZE)
    by_dimension[page, :, :, position] = keys
    by_position[page, :, position] = values


NO_SINK = -5e4


def no_sinks(num_heads: int) -> Floats:
    """What kernels take where no head has a sink."""
    return np.full(num_heads, NO_SINK, np.float32)
