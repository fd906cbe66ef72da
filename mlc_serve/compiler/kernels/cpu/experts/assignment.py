"""The tokens of each expert.

A pair is a token and one of the experts that it is sent to. The pairs of a batch are sorted by expert, and
those of an expert by token.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, NamedTuple

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.models.parts.experts import Experts

_FEW_PAIRS = 16  # whose rows one thread copies before another has woken, whatever their width


class Assignment(NamedTuple):
    """Which pairs an expert has, for E experts and P pairs."""

    firsts: Any  # (E + 1,) int64: the first pair of each expert; at the end the number of pairs
    busy: Any  # (E,) int64: the experts that have any pair, in their order
    num_busy: Any  # (1,) int64
    tokens: Any  # (P,) int64: the token of each pair
    shares: Any  # (P,) float32: what the result of a pair is multiplied by

    @classmethod
    def allocate(cls, num_experts: int, num_pairs: Any) -> Assignment:
        """Buffers of the TIR block that is being parsed."""
        return cls(
            T.sblock_alloc_buffer((num_experts + 1,), "int64"),
            T.sblock_alloc_buffer((num_experts,), "int64"),
            T.sblock_alloc_buffer((1,), "int64"),
            T.sblock_alloc_buffer((num_pairs,), "int64"),
            T.sblock_alloc_buffer((num_pairs,), "float32"),
        )


def assign_macro(experts: Experts) -> Any:
    """The macro `assign(I, S, to, start, count)`: sort the pairs of `count` tokens from `start`, with I and S
    as `choose_experts` writes them.
    """
    num_experts, num_active = experts.num_experts, experts.num_active

    @T.macro
    def count_pairs(I, to, start, count):
        """Leave in `firsts[e]` how many pairs expert e - 1 has."""
        for e in T.serial(num_experts + 1):
            to.firsts[e] = T.int64(0)
        for token in T.serial(count):
            for choice in T.serial(num_active):
                to.firsts[I[start + token, choice] + 1] = to.firsts[I[start + token, choice] + 1] + T.int64(1)

    @T.macro
    def add_up(to):
        """Turn the numbers of pairs into `firsts`, and find the busy experts."""
        to.num_busy[0] = T.int64(0)
        for e in T.serial(num_experts):
            if to.firsts[e + 1] > T.int64(0):
                to.busy[to.num_busy[0]] = T.Cast("int64", e)
                to.num_busy[0] = to.num_busy[0] + T.int64(1)
            to.firsts[e + 1] = to.firsts[e + 1] + to.firsts[e]

    @T.macro
    def place(I, S, to, token, choice):
        """Take the next place of the pair's expert: `firsts` moves on with each."""
        to.tokens[to.firsts[I[token, choice]]] = T.Cast("int64", token)
        to.shares[to.firsts[I[token, choice]]] = S[token, choice]
        to.firsts[I[token, choice]] = to.firsts[I[token, choice]] + T.int64(1)

    @T.macro
    def assign(I, S, to, start, count):
        with T.sblock("assign"):
            T.reads()
            T.writes()
            count_pairs(I, to, start, count)
            add_up(to)
            for token in T.serial(count):
                for choice in T.serial(num_active):
                    place(I, S, to, start + token, choice)
            # Each expert's first has become that of the next.
            for e in T.serial(num_experts):
                to.firsts[num_experts - e] = to.firsts[num_experts - 1 - e]
            to.firsts[0] = T.int64(0)

    return assign


class BusyExpert(NamedTuple):
    """An expert and its pairs, in local buffers of one value, so that they stay in registers."""

    expert: Any
    first: Any
    count: Any

    @classmethod
    def allocate(cls) -> BusyExpert:
        """Buffers of the TIR block that is being parsed."""
        return cls(local((1,), "int64"), local((1,), "int64"), local((1,), "int64"))


@T.macro
def find_busy(pairs, place, busy):
    """Look up the busy expert with the number `place`."""
    busy.expert[0] = pairs.busy[place]
    busy.first[0] = pairs.firsts[pairs.busy[place]]
    busy.count[0] = pairs.firsts[pairs.busy[place] + 1] - pairs.firsts[pairs.busy[place]]


def gather_macro(widths: list[int]) -> Any:
    """The macro `gather(rows, tokens, pair_rows, num_pairs)`: the rows of tokens -> those of pairs. Both are
    tuples with a buffer `(1, s, width)` for each width.
    """
    copies = [_copy_macro(width, place) for place, width in enumerate(widths)]
    copy = reduce(_both_macro, copies)

    @T.macro
    def gather(rows, tokens, pair_rows, num_pairs):
        if num_pairs > _FEW_PAIRS:
            for pair in T.parallel(num_pairs):
                copy(rows, tokens, pair_rows, pair)
        else:
            for pair in T.serial(num_pairs):
                copy(rows, tokens, pair_rows, pair)

    return gather


def _copy_macro(width: int, place: int) -> Any:
    step = lanes(width)

    @T.macro
    def copy(rows, tokens, pair_rows, pair):
        for i in T.serial(width // step):
            for lane in T.vectorized(step):
                pair_rows[place][0, pair, i * step + lane] = rows[place][0, tokens[pair], i * step + lane]

    return copy


def _both_macro(first: Any, second: Any) -> Any:
    @T.macro
    def both(rows, tokens, pair_rows, pair):
        first(rows, tokens, pair_rows, pair)
        second(rows, tokens, pair_rows, pair)

    return both
