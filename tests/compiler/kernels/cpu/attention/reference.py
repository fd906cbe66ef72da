"""Attention by its definition, and KV pages filled through the kernel that fills them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAGE_SIZE = 16
Floats = NDArray[Any]  # of the type that keys and values have
Ints = NDArray[np.int32]


def attend(q: Floats, k: Floats, v: Floats, *, causal: bool) -> tuple[Floats, Floats]:
    """Q `(n, hq, d)`, K and V `(m, hkv, d)` -> `(n, hq, d)` and the log2 of the softmax's denominator `(n,
    hq)`.

    The queries are the last n of the m positions.
    """
    group = q.shape[1] // k.shape[1]
    q = q.astype(np.float64)
    k, v = (np.repeat(x.astype(np.float64), group, 1) for x in (k, v))
    scores = np.einsum("nhd,mhd->hnm", q, k) * q.shape[2] ** -0.5
    if causal:
        num_queries, num_keys = scores.shape[1:]
        visible = np.arange(num_keys) <= np.arange(num_queries)[:, None] + num_keys - num_queries
        scores = np.where(visible, scores, -np.inf)
    peak = scores.max(-1, keepdims=True)
    weights = np.exp(scores - peak)
    total = weights.sum(-1, keepdims=True)
    output = np.einsum("hnm,mhd->nhd", weights / total, v)
    return output.astype(np.float32), ((np.log2(total) + peak / np.log(2))[..., 0].T).astype(np.float32)


def indptr(lengths: Sequence[int]) -> Ints:
    """Where each sequence begins in a ragged batch, and where the last ends."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


@dataclass
class PagedKeys:
    """Keys and values of sequences, and the pages that hold them in any order; unused slots hold NaN."""

    lengths: tuple[int, ...]
    keys: list[Floats]
    values: list[Floats]
    pages: Floats
    page_indptr: Ints
    page_values: Ints
    slots: Ints

    @property
    def last_page(self) -> Ints:
        """How many slots of each sequence's last page are used."""
        return np.array([(length - 1) % PAGE_SIZE + 1 for length in self.lengths], np.int32)


def paged_keys(
    lengths: Sequence[int], num_heads: int, head_dim: int, append: Callable[..., None], dtype: str = "float32"
) -> PagedKeys:
    """Random keys and values of sequences of these lengths, of `dtype`, which the kernel `append` has
    written.
    """
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
    pages = np.full((sum(counts) + 3, 2, num_heads, PAGE_SIZE, head_dim), np.nan, dtype)
    append(pages, np.concatenate(keys), np.concatenate(values), slots)
    return PagedKeys(tuple(lengths), keys, values, pages, first, order, slots)
