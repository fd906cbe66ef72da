"""The figures of each task and of each kind of task."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.lookup.answers import PLAIN, Asked, are_equal, rate, tokens_per_pass
from benchmarks.lookup.tasks import KINDS
from benchmarks.report import Row

# An engine and how it drafts.
Way = tuple[str, str]


def task_rows(asked: Sequence[Asked]) -> list[Row]:
    """A row for each task and each way of drafting."""
    return [
        {"task": one.task.name, "prompt": len(one.prompt), **_figures([one], way)}
        for one in asked
        for way in _ways(asked)
    ]


def kind_rows(asked: Sequence[Asked]) -> list[Row]:
    """A row for each kind of task and each way of drafting."""
    by_kind = {kind: [one for one in asked if one.task.kind == kind] for kind in KINDS}
    return [
        {"kind": kind, "tasks": len(of_kind), **_figures(of_kind, way)}
        for kind, of_kind in by_kind.items()
        if of_kind
        for way in _ways(asked)
    ]


def changed_by_drafts(asked: Sequence[Asked], engine: str) -> list[str]:
    """The names of the tasks for which an engine's answers are not all the same."""
    ways = [way for way in asked[0].answers if way[0] == engine]
    return [one.task.name for one in asked if not _is_same(one, ways)]


def _ways(asked: Sequence[Asked]) -> list[Way]:
    """The ways of drafting, without those that don't draft."""
    return [way for way in asked[0].answers if way[1] != PLAIN]


def _figures(asked: Sequence[Asked], way: Way) -> Row:
    """Rates without and with drafts, and how many of the answers are the same with them."""
    engine, drafts = way
    plain = [one.answers[engine, PLAIN] for one in asked]
    drafted = [one.answers[way] for one in asked]
    same = sum(_is_same(one, [(engine, PLAIN), way]) for one in asked)
    return {
        "engine": engine,
        "drafts": drafts,
        "plain_tokens_per_s": rate(plain),
        "tokens_per_s": rate(drafted),
        "ratio": rate(drafted) / rate(plain),
        "tokens_per_pass": tokens_per_pass(drafted),
        "same_answers": f"{same} of {len(asked)}",
    }


def _is_same(one: Asked, ways: Sequence[Way]) -> bool:
    return are_equal([answer for way in ways for answer in one.answers[way]])
