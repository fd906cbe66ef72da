"""Lookup beside plain decoding: tasks, turns, the arithmetic of the tables, and engines on a small model."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from benchmarks.lookup import __main__ as program
from benchmarks.lookup.answers import PLAIN, Answer, Asked, Side, ask_in_turns, rate, tokens_per_pass
from benchmarks.lookup.llama_server import read_answer
from benchmarks.lookup.ours import our_engines
from benchmarks.lookup.tables import changed_by_drafts, kind_rows, task_rows
from benchmarks.lookup.tasks import KINDS, Task, read_tasks
from mlc_serve.demo import demo_model_path

EDIT, CHAT = Task("edit-a", "Edit."), Task("chat-a", "Chat.")


class FakeSide:
    """A side whose answers have three tokens and take seconds from a list."""

    def __init__(self, drafts: str, seconds: list[float], calls: list[str]) -> None:
        self.engine, self.drafts = "fake", drafts
        self._seconds = seconds
        self._calls = calls

    def answer(self, prompt: Sequence[int], max_tokens: int) -> Answer:
        self._calls.append(f"{self.drafts} {prompt[0]}")
        return Answer((1, 2, 3), self._seconds.pop(0), 1)


def asked(task: Task, plain: Sequence[Answer], drafted: Sequence[Answer]) -> Asked:
    """A task with the answers of an engine without and with drafts."""
    return Asked(task, [0] * 5, {("e", PLAIN): list(plain), ("e", "ngram"): list(drafted)})


def test_there_are_several_tasks_of_each_kind() -> None:
    """None is so short that there is nothing to look up, and none fills the context."""
    tasks = read_tasks()
    assert {kind: sum(task.kind == kind for task in tasks) >= 3 for kind in KINDS} == dict.fromkeys(
        KINDS, True
    )
    assert all(80 <= len(task.text.split()) <= 500 for task in tasks)
    assert [task.kind for task in read_tasks(["chat"])] == ["chat"] * 4


def test_sides_take_turns_task_by_task() -> None:
    """What is answered before the first round, one task of each kind, doesn't count."""
    calls: list[str] = []
    sides: list[Side] = [FakeSide(drafts, [9.0, 1.0, 2.0], calls) for drafts in (PLAIN, "ngram")]
    one = Asked(EDIT, [7])
    ask_in_turns([one], sides, 2, 3)
    assert calls == ["none 7", "ngram 7"] * 3
    assert [answer.seconds for answer in one.answers["fake", "ngram"]] == [1.0, 2.0]


def test_a_task_counts_with_the_median_of_its_rounds() -> None:
    """The first token comes from the prompt's pass, and isn't timed."""
    rounds = [Answer((1, 2, 3), seconds, 1) for seconds in (1.0, 50.0, 3.0)]
    longer = [Answer((1, 2, 3, 4, 5, 6, 7), 1.0, 3)]
    assert rate([rounds]) == 2 / 3
    assert rate([rounds, longer]) == 8 / 4
    assert tokens_per_pass([rounds, longer]) == 8 / 4


def test_a_row_compares_an_engine_with_itself() -> None:
    """Tasks of a kind are summed up, and each has a row of its own as well."""
    plain, drafted = Answer((1, 2, 3), 2.0, 2), Answer((1, 2, 3), 0.5, 1)
    found = [asked(EDIT, [plain], [drafted]), asked(CHAT, [plain], [plain])]
    edit, chat = kind_rows(found)
    assert edit == {
        "kind": "edit",
        "tasks": 1,
        "engine": "e",
        "drafts": "ngram",
        "plain_tokens_per_s": 1.0,
        "tokens_per_s": 4.0,
        "ratio": 4.0,
        "tokens_per_pass": 2.0,
        "same_answers": "1 of 1",
    }
    assert (chat["kind"], chat["ratio"]) == ("chat", 1.0)
    assert [(row["task"], row["prompt"]) for row in task_rows(found)] == [("edit-a", 5), ("chat-a", 5)]


def test_a_changed_answer_is_named() -> None:
    """Even if it changed in one round only."""
    same, other = Answer((1, 2), 1.0, 1), Answer((1, 3), 1.0, 1)
    found = [asked(EDIT, [same, same], [same, other]), asked(CHAT, [same], [same])]
    assert changed_by_drafts(found, "e") == ["edit-a"]
    assert kind_rows(found)[0]["same_answers"] == "0 of 1"


def test_llama_cpp_tells_how_many_drafts_it_kept() -> None:
    """Each pass gives a token beside them; without drafts it says nothing about any."""
    reply = {"tokens": [5, 6, 7, 8], "timings": {"predicted_n": 4, "predicted_ms": 500.0}}
    assert read_answer(reply) == Answer((5, 6, 7, 8), 0.5, 3)
    timings = {"predicted_n": 4, "predicted_ms": 500.0, "draft_n": 9, "draft_n_accepted": 2}
    assert read_answer({**reply, "timings": timings}).num_passes == 1


@pytest.mark.slow
def test_drafts_change_no_answer_of_a_small_model() -> None:
    """An engine with drafts and one without give the same tokens, one pass for each without drafts."""
    task = Task("repeat-a", "Say this again: what is the weather in Oslo? What is the weather in Oslo?")
    with our_engines(str(demo_model_path()), None, 256) as ours:
        (found,) = program.measure(ours, (), [task], runs=1, max_tokens=24)
    (plain,), (drafted,) = found.answers["mlc_serve", PLAIN], found.answers["mlc_serve", "ngram"]
    assert plain.token_ids == drafted.token_ids
    assert plain.num_passes == len(plain.token_ids) - 1 >= drafted.num_passes
    (row,) = kind_rows([found])
    assert row["same_answers"] == "1 of 1"


def test_it_explains_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """--help prints what is measured."""
    monkeypatch.setattr(sys, "argv", ["lookup", "--help"])
    with pytest.raises(SystemExit):
        program.main()
    assert "--no-llama-cpp" in capsys.readouterr().out
