"""Where the tokens of a row, likeliest first, reach a mass: what a nucleus comes down to, and top-k where all
weigh 1, without sorting the row.

A bracket of logits that holds the answer is cut into quarters until few are left in it; these are sorted.
Equal logits count by id. Macros for `sampling` and `scores`.
"""

from __future__ import annotations

from typing import NamedTuple

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.exponential import exp2
from mlc_serve.compiler.kernels.cpu.primitives.local import local
from mlc_serve.compiler.kernels.cpu.sampling.logits_row import (
    BLOCK,
    THRESHOLDS,
    Tally,
    block_length,
    num_blocks,
    survey,
    weigh_alike,
)
from mlc_serve.quantization.packing import LANES

_FEW = 64  # logits that are sorted rather than cut further
_HALVINGS = 16  # of what lies between a floor and the peak
_ROUNDING = 2.0**-20  # of a mass, more than float32 loses of its sums


class Prefix(NamedTuple):
    """The likeliest tokens of a row, in buffers of one value: those whose logit is above `floor`, and those
    with a logit of just that whose id is at most `last`. They weigh `mass` (float64).
    """

    floor: T.Buffer
    last: T.Buffer
    mass: T.Buffer


class Found(NamedTuple):
    """`count[0]` tokens, and the `ids` of these, or of as many as there is room for, likeliest first."""

    ids: T.Buffer
    count: T.Buffer


class _Bracket(NamedTuple):
    """Logits from `bounds[0]` to below `bounds[1]`, and what all weigh that reach each of these."""

    bounds: T.Buffer
    masses: T.Buffer


@T.macro
def _raise_to_count(row, count, floor):
    """Raise a floor to one that the greatest logits of `count` blocks reach, if so many reach it as it is."""
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
            for block in T.serial(num_blocks(row.vocab)):
                reaching[0] = reaching[0] + T.Select(row.maxima[block] >= middle[0], 1, 0)
            if reaching[0] >= count:
                floor[0] = middle[0]
            else:
                high[0] = middle[0]


@T.macro
def aim_at_count(row, count, prefix):
    """Weigh a row and its prefix so that a search with `count` as its goal is for so many tokens."""
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
    """Behind all that are as likely, for tokens come by id; where there is no room, the last one goes."""
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
    """Find the tokens whose logits are at least `low` and less than `high`, all or more than `most`; there is
    room for `room`.
    """
    found.count[0] = 0
    for block in T.serial(num_blocks(row.vocab)):
        if row.maxima[block] >= low and found.count[0] <= most:
            for i in T.serial(block_length(row.vocab, block) // LANES):
                _list_vector(row, block * BLOCK + i * LANES, low, high, found, room)
            for i in T.serial(block_length(row.vocab, block) % LANES):
                _list_one(
                    row,
                    block * BLOCK + block_length(row.vocab, block) // LANES * LANES + i,
                    low,
                    high,
                    found,
                    room,
                )


@T.macro
def _take(row, token, goal, prefix):
    """One token more, unless there are enough."""
    if prefix.mass[0] < goal:
        prefix.last[0] = token
        prefix.floor[0] = row.logits[row.index, token]
        prefix.mass[0] = prefix.mass[0] + T.Cast("float64", row.weights[token])


@T.macro
def _walk_equal(row, bracket, goal, prefix):
    """Through a bracket of logits that are equal, by id."""
    for token in T.serial(row.vocab):
        if (
            row.logits[row.index, token] >= bracket.bounds[0]
            and row.logits[row.index, token] < bracket.bounds[1]
        ):
            _take(row, token, goal, prefix)


@T.macro
def _cut(row, bracket, goal, tally, goes_on):
    """Into quarters, of which one goes on; but not what can't be cut."""
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
    """Shorten a prefix, which weighs no more than its mass, to the mass `goal`; one that does not reach it
    stays whole. `scale` is what the row was weighed with, 0 if alike.

    What the least likely token of a bracket weighs tells when there can be but few, save for rounding.
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
    # By factors: where a weight or 0 is chosen, LLVM stores some lanes only, which takes twice as long.
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
    """Take their weights from all tokens but those of a prefix: `sums` and `total[0]` are what remains, and
    `weights` of blocks that keep some.
    """
    with T.sblock("keep"):
        T.reads()
        T.writes()
        partial = local((LANES,))
        total[0] = T.float64(0)
        for block in T.serial(num_blocks(row.vocab)):
            row.sums[block] = T.float64(0)
            if row.maxima[block] >= prefix.floor[0]:
                for lane in T.vectorized(LANES):
                    partial[lane] = T.float32(0)
                for i in T.serial(block_length(row.vocab, block) // LANES):
                    _keep_some(row, prefix, block * BLOCK + i * LANES, LANES, partial)
                for i in T.serial(block_length(row.vocab, block) % LANES):
                    _keep_some(
                        row,
                        prefix,
                        block * BLOCK + block_length(row.vocab, block) // LANES * LANES + i,
                        1,
                        partial,
                    )
                for lane in T.unroll(LANES):
                    row.sums[block] = row.sums[block] + T.Cast("float64", partial[lane])
                total[0] = total[0] + row.sums[block]
