"""Where the tokens of a row, likeliest first, reach a count or a mass: what top-k and nucleus come down to,
without sorting the row.

A bracket of logits that holds the answer is cut into quarters until few are left in it; these are sorted.
Equal logits count by id. Macros for `sampling`.
"""

from __future__ import annotations

from typing import NamedTuple

from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.lanes import LANES
from mlc_serve.compiler.kernels.cpu.local import local
from mlc_serve.compiler.kernels.cpu.logits_row import (
    BLOCK,
    THRESHOLDS,
    Tally,
    block_length,
    num_blocks,
    survey,
)

_FEW = 64  # logits that are sorted rather than cut further


class Prefix(NamedTuple):
    """The likeliest tokens of a row, in buffers of one value: those whose logit is above `floor`, and those
    with a logit of just that whose id is at most `last`. `count` (int32) of them weigh `mass` (float64).
    """

    last: T.Buffer
    count: T.Buffer
    mass: T.Buffer
    floor: T.Buffer


class _Goal(NamedTuple):
    """A prefix is long enough when it has `count` tokens or weighs `mass`, whichever comes first."""

    count: T.Buffer
    mass: T.Buffer


class _Bracket(NamedTuple):
    """Logits from `bounds[0]` to below `bounds[1]`, and how many reach each of the two bounds."""

    bounds: T.Buffer
    counts: T.Buffer


@T.macro
def _narrow(tally, bracket, goal, prefix):
    for j in T.unroll(THRESHOLDS):
        if tally.counts[j] >= goal.count[0] or tally.masses[j] >= goal.mass[0]:
            bracket.bounds[0] = tally.thresholds[j]
            bracket.counts[0] = tally.counts[j]
    for j in T.unroll(THRESHOLDS):
        if (
            tally.counts[THRESHOLDS - 1 - j] < goal.count[0]
            and tally.masses[THRESHOLDS - 1 - j] < goal.mass[0]
        ):
            bracket.bounds[1] = tally.thresholds[THRESHOLDS - 1 - j]
            bracket.counts[1] = tally.counts[THRESHOLDS - 1 - j]
            prefix.mass[0] = tally.masses[THRESHOLDS - 1 - j]


@T.macro
def _insert(row, token, ids, listed, room):
    """Behind all that are as likely, for tokens come by id; where there is no room, the last one goes."""
    with T.sblock("insert"):
        T.reads()
        T.writes()
        place = local((1,), "int32")
        place[0] = 0
        for i in T.serial(listed[0]):
            if row.logits[row.index, ids[i]] >= row.logits[row.index, token]:
                place[0] = place[0] + 1
        if place[0] < room:
            listed[0] = T.min(listed[0] + 1, room)
            for i in T.serial(listed[0] - 1 - place[0]):
                ids[listed[0] - 1 - i] = ids[listed[0] - 2 - i]
            ids[place[0]] = token


@T.macro
def _list_one(row, token, low, high, ids, listed, room):
    if row.logits[row.index, token] >= low and row.logits[row.index, token] < high:
        _insert(row, token, ids, listed, room)


@T.macro
def _list_vector(row, start, low, high, ids, listed, room):
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
                _list_one(row, start + lane, low, high, ids, listed, room)


@T.macro
def list_between(row, low, high, ids, listed, room):
    """Put the tokens whose logits are at least `low` and less than `high`, or the likeliest `room` of them,
    into `ids`, likeliest first. `listed[0]`, 0 before, is how many they are.
    """
    for block in T.serial(num_blocks(row.vocab)):
        if row.maxima[block] >= low:
            for i in T.serial(block_length(row.vocab, block) // LANES):
                _list_vector(row, block * BLOCK + i * LANES, low, high, ids, listed, room)
            for i in T.serial(block_length(row.vocab, block) % LANES):
                _list_one(
                    row,
                    block * BLOCK + block_length(row.vocab, block) // LANES * LANES + i,
                    low,
                    high,
                    ids,
                    listed,
                    room,
                )


@T.macro
def _take(row, token, goal, prefix):
    """One token more, unless there are enough."""
    if prefix.count[0] < goal.count[0] and prefix.mass[0] < goal.mass[0]:
        prefix.last[0] = token
        prefix.floor[0] = row.logits[row.index, token]
        prefix.count[0] = prefix.count[0] + 1
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
def _walk_sorted(row, bracket, goal, prefix):
    with T.sblock("sorted"):
        T.reads()
        T.writes()
        ids = local((_FEW,), "int32")
        listed = local((1,), "int32")
        listed[0] = 0
        list_between(row, bracket.bounds[0], bracket.bounds[1], ids, listed, _FEW)
        for i in T.serial(listed[0]):
            _take(row, ids[i], goal, prefix)


@T.macro
def search(row, goal_count, goal_mass, prefix):
    """Shorten a prefix to `goal_count` tokens or to the mass `goal_mass`, whichever is reached first; one
    that does not reach them stays whole.
    """
    with T.sblock("search"):
        T.reads()
        T.writes()
        wanted_count = local((1,), "int32")
        wanted_mass = local((1,), "float64")
        bounds = local((2,))
        reaching = local((2,), "int32")
        thresholds = local((THRESHOLDS,))
        counts = local((THRESHOLDS,), "int32")
        masses = local((THRESHOLDS,), "float64")
        goes_on = local((1,), "int32")
        goal = T.meta_var(_Goal(wanted_count, wanted_mass))
        bracket = T.meta_var(_Bracket(bounds, reaching))
        tally = T.meta_var(Tally(thresholds, counts, masses))
        wanted_count[0] = goal_count
        wanted_mass[0] = goal_mass
        bounds[0] = prefix.floor[0]
        bounds[1] = row.extremes[0] + T.fabs(row.extremes[0]) * T.float32(2.0**-22) + T.float32(2.0**-100)
        reaching[0] = prefix.count[0]
        reaching[1] = 0
        prefix.mass[0] = T.float64(0)
        goes_on[0] = 1
        while goes_on[0] > 0:
            for j in T.unroll(THRESHOLDS):
                thresholds[j] = bounds[0] + (bounds[1] - bounds[0]) * (
                    T.Cast("float32", j + 1) * T.float32(1 / (THRESHOLDS + 1))
                )
            if (
                reaching[0] - reaching[1] <= _FEW
                or thresholds[THRESHOLDS // 2] <= bounds[0]
                or thresholds[THRESHOLDS // 2] >= bounds[1]
            ):
                goes_on[0] = 0
            else:
                survey(row, tally)
                _narrow(tally, bracket, goal, prefix)
        prefix.count[0] = reaching[1]
        prefix.floor[0] = bounds[0]
        prefix.last[0] = row.vocab - 1
        if reaching[0] - reaching[1] <= _FEW:
            _walk_sorted(row, bracket, goal, prefix)
        else:
            _walk_equal(row, bracket, goal, prefix)


@T.macro
def _keep_some(row, prefix, start, width, partial):
    for lane in T.vectorized(width):
        row.weights[start + lane] = T.Select(
            row.logits[row.index, start + lane] > prefix.floor[0],
            row.weights[start + lane],
            T.Select(
                row.logits[row.index, start + lane] == prefix.floor[0],
                T.Select(start + lane <= prefix.last[0], row.weights[start + lane], T.float32(0)),
                T.float32(0),
            ),
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
