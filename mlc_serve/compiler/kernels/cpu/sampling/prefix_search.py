"""Finds how many tokens of a row, likeliest first, reach a mass, without sorting the row. This is what a
nucleus needs, and top-k, where every token weighs 1.

A bracket of logits that holds the answer is cut into quarters until few tokens are left in it, which are then
sorted. Equal logits are ordered by id.
"""

from __future__ import annotations

from typing import NamedTuple

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.exponential import exp2
from mlc_serve.compiler.kernels.cpu.primitives.task_buffer import local
from mlc_serve.compiler.kernels.cpu.sampling.logits_row import (
    CHUNK,
    THRESHOLDS,
    Tally,
    chunk_length,
    num_chunks,
    survey,
    weigh_alike,
)
from mlc_serve.quantization.packing import LANES

_FEW = 64  # so many logits are sorted rather than cut further
_HALVINGS = 16  # how often the range from the floor to the peak is halved
_ROUNDING = 2.0**-20  # part of a mass that its sums in float32 may have lost


class Prefix(NamedTuple):
    """The likeliest tokens of a row: those whose logit is above `floor`, and those with exactly that logit
    whose id is at most `last`. They weigh `mass` (float64). Each is a buffer of one value.
    """

    floor: T.Buffer
    last: T.Buffer
    mass: T.Buffer


class Found(NamedTuple):
    """`count[0]` tokens were found. `ids` are the likeliest of them, in order, as far as there is room."""

    ids: T.Buffer
    count: T.Buffer


class _Bracket(NamedTuple):
    """Logits from `bounds[0]` to below `bounds[1]`. `masses` are the weights of all that reach each bound."""

    bounds: T.Buffer
    masses: T.Buffer


@T.macro
def _raise_to_count(row, count, floor):
    """If the greatest logits of `count` chunks reach a floor, raise it as far as that stays true."""
    with T.sblock("raise"):
        T.reads()
        T.writes()
        high = local((1,))
        middle = local((1,))
        reaching = local((1,), "int32")
        high[0] = row.extremes[0]
        for _ in T.serial(_HALVINGS):
            middle[0] = floor[0] + (high[0] - floor[0]) * T.float32(0.5)
            reaching[0] = 0
            for chunk in T.serial(num_chunks(row.vocab)):
                reaching[0] = reaching[0] + T.Select(row.maxima[chunk] >= middle[0], 1, 0)
            if reaching[0] >= count:
                floor[0] = middle[0]
            else:
                high[0] = middle[0]


@T.macro
def aim_at_count(row, count, prefix):
    """Weigh a row and its prefix so that a search with the goal `count` finds so many tokens."""
    _raise_to_count(row, count, prefix.floor)
    weigh_alike(row)
    prefix.mass[0] = T.Cast("float64", row.vocab)


@T.macro
def _narrow(tally, bracket, goal):
    for j in T.unroll(THRESHOLDS):
        if tally.masses[j] >= goal:
            bracket.bounds[0] = tally.thresholds[j]
            bracket.masses[0] = tally.masses[j]
    for j in T.unroll(THRESHOLDS):
        if tally.masses[THRESHOLDS - 1 - j] < goal:
            bracket.bounds[1] = tally.thresholds[THRESHOLDS - 1 - j]
            bracket.masses[1] = tally.masses[THRESHOLDS - 1 - j]


@T.macro
def _insert(row, token, found, room):
    """Insert a token after those that are as likely, because tokens come in order of id. If the list is full,
    the last one is dropped.
    """
    with T.sblock("insert"):
        T.reads()
        T.writes()
        place = local((1,), "int32")
        end = local((1,), "int32")
        place[0] = 0
        end[0] = T.min(found.count[0], room - 1)
        for i in T.serial(T.min(found.count[0], room)):
            if row.logits[row.index, found.ids[i]] >= row.logits[row.index, token]:
                place[0] = place[0] + 1
        for i in T.serial(end[0] - place[0]):
            found.ids[end[0] - i] = found.ids[end[0] - i - 1]
        if place[0] < room:
            found.ids[place[0]] = token
        found.count[0] = found.count[0] + 1


@T.macro
def _list_one(row, token, low, high, found, room):
    if row.logits[row.index, token] >= low and row.logits[row.index, token] < high:
        _insert(row, token, found, room)


@T.macro
def _list_vector(row, start, low, high, found, room):
    with T.sblock("vector"):
        T.reads()
        T.writes()
        hits = local((LANES,), "int32")
        num_hits = local((1,), "int32")
        for lane in T.vectorized(LANES):
            hits[lane] = T.Select(row.logits[row.index, start + lane] >= low, 1, 0)
        for lane in T.vectorized(LANES):
            hits[lane] = hits[lane] - T.Select(row.logits[row.index, start + lane] >= high, 1, 0)
        num_hits[0] = 0
        for lane in T.unroll(LANES):
            num_hits[0] = num_hits[0] + hits[lane]
        if num_hits[0] > 0:
            for lane in T.serial(LANES):
                _list_one(row, start + lane, low, high, found, room)


@T.macro
def list_between(row, low, high, found, room, most):
    """Find the tokens whose logits are at least `low` and less than `high`, until all or more than `most` are
    found. The list has room for `room` ids.
    """
    found.count[0] = 0
    for chunk in T.serial(num_chunks(row.vocab)):
        if row.maxima[chunk] >= low and found.count[0] <= most:
            for i in T.serial(chunk_length(row.vocab, chunk) // LANES):
                _list_vector(row, chunk * CHUNK + i * LANES, low, high, found, room)
            for i in T.serial(chunk_length(row.vocab, chunk) % LANES):
                _list_one(
                    row,
                    chunk * CHUNK + chunk_length(row.vocab, chunk) // LANES * LANES + i,
                    low,
                    high,
                    found,
                    room,
                )


@T.macro
def _take(row, token, goal, prefix):
    """Add a token to the prefix, unless the prefix has reached the goal."""
    if prefix.mass[0] < goal:
        prefix.last[0] = token
        prefix.floor[0] = row.logits[row.index, token]
        prefix.mass[0] = prefix.mass[0] + T.Cast("float64", row.weights[token])


@T.macro
def _walk_equal(row, bracket, goal, prefix):
    """Take tokens from a bracket whose logits are all equal, by id."""
    for token in T.serial(row.vocab):
        if (
            row.logits[row.index, token] >= bracket.bounds[0]
            and row.logits[row.index, token] < bracket.bounds[1]
        ):
            _take(row, token, goal, prefix)


@T.macro
def _cut(row, bracket, goal, tally, goes_on):
    """Cut a bracket into quarters and keep the one with the goal. Stop where float32 can cut no further."""
    for j in T.unroll(THRESHOLDS):
        tally.thresholds[j] = bracket.bounds[0] + (bracket.bounds[1] - bracket.bounds[0]) * (
            T.Cast("float32", j + 1) * T.float32(1 / (THRESHOLDS + 1))
        )
    if (
        tally.thresholds[THRESHOLDS // 2] <= bracket.bounds[0]
        or tally.thresholds[THRESHOLDS // 2] >= bracket.bounds[1]
    ):
        goes_on[0] = 0
    else:
        survey(row, tally)
        _narrow(tally, bracket, goal)


@T.macro
def search(row, scale, goal, prefix):
    """Shorten a prefix to the tokens that reach the mass `goal`. A prefix that does not reach it stays whole;
    it may weigh less than its mass says. `scale` is that of the row's weights, or 0 if all weigh the same.

    The weight of the least likely token of a bracket bounds, up to rounding, how many are in it.
    """
    with T.sblock("search"):
        T.reads()
        T.writes()
        bounds = local((2,))
        masses = local((2,), "float64")
        thresholds = local((THRESHOLDS,))
        reached = local((THRESHOLDS,), "float64")
        ids = local((_FEW,), "int32")
        count = local((1,), "int32")
        least = local((1,))
        goes_on = local((1,), "int32")
        bracket = T.meta_var(_Bracket(bounds, masses))
        tally = T.meta_var(Tally(thresholds, reached))
        found = T.meta_var(Found(ids, count))
        bounds[0] = prefix.floor[0]
        bounds[1] = row.extremes[0] + T.fabs(row.extremes[0]) * T.float32(2.0**-22) + T.float32(2.0**-100)
        masses[0] = prefix.mass[0]
        masses[1] = T.float64(0)
        goes_on[0] = 1
        while goes_on[0] > 0:
            least[0] = exp2((bounds[0] - row.extremes[0]) * scale)
            count[0] = _FEW + 1
            if masses[0] - masses[1] <= T.Cast("float64", least[0] * _FEW) + masses[0] * T.float64(_ROUNDING):
                list_between(row, bounds[0], bounds[1], found, _FEW, _FEW)
            if count[0] <= _FEW:
                goes_on[0] = 0
            else:
                _cut(row, bracket, goal, tally, goes_on)
        prefix.mass[0] = masses[1]
        prefix.floor[0] = bounds[0]
        prefix.last[0] = row.vocab - 1
        if count[0] <= _FEW:
            for i in T.serial(count[0]):
                _take(row, ids[i], goal, prefix)
        else:
            _walk_equal(row, bracket, goal, prefix)


@T.macro
def _keep_some(row, prefix, start, width, partial):
    # Weights are multiplied by 1 or 0. To select a weight or 0, LLVM would store only some lanes, which takes
    # twice as long.
    for lane in T.vectorized(width):
        row.weights[start + lane] = row.weights[start + lane] * T.Select(
            start + lane <= prefix.last[0],
            T.Select(row.logits[row.index, start + lane] >= prefix.floor[0], T.float32(1), T.float32(0)),
            T.Select(row.logits[row.index, start + lane] > prefix.floor[0], T.float32(1), T.float32(0)),
        )
    for lane in T.vectorized(width):
        partial[lane] = partial[lane] + row.weights[start + lane]


@T.macro
def keep_prefix(row, prefix, total):
    """Set the weights of all tokens that are not in a prefix to zero. `sums` and `total[0]` are what remains.
    `weights` are only changed in chunks that keep a token.
    """
    with T.sblock("keep"):
        T.reads()
        T.writes()
        partial = local((LANES,))
        total[0] = T.float64(0)
        for chunk in T.serial(num_chunks(row.vocab)):
            row.sums[chunk] = T.float64(0)
            if row.maxima[chunk] >= prefix.floor[0]:
                for lane in T.vectorized(LANES):
                    partial[lane] = T.float32(0)
                for i in T.serial(chunk_length(row.vocab, chunk) // LANES):
                    _keep_some(row, prefix, chunk * CHUNK + i * LANES, LANES, partial)
                for i in T.serial(chunk_length(row.vocab, chunk) % LANES):
                    _keep_some(
                        row,
                        prefix,
                        chunk * CHUNK + chunk_length(row.vocab, chunk) // LANES * LANES + i,
                        1,
                        partial,
                    )
                for lane in T.unroll(LANES):
                    row.sums[chunk] = row.sums[chunk] + T.Cast("float64", partial[lane])
                total[0] = total[0] + row.sums[chunk]
