"""The commands of a chat."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlc_serve.chat.commands import COMMANDS, Leave, run_command
from mlc_serve.chat.dialogue import Dialogue
from mlc_serve.config import ChatConfig
from mlc_serve.errors import ConfigError
from tests.chat.fake_source import FakeSource


def dialogue_of(*replies: str) -> Dialogue:
    """A dialogue in which the first reply was given."""
    dialogue = Dialogue(FakeSource(*replies), ChatConfig())
    list(dialogue.ask("hello"))
    return dialogue


def output(line: str, dialogue: Dialogue) -> str:
    """The output of a command."""
    return "".join(run_command(line, dialogue))


def test_help_lists_every_command() -> None:
    """Each command is listed with its argument."""
    text = output("/help", dialogue_of("a"))
    assert all(f"{name} {command.argument}" in text for name, command in COMMANDS.items())


def test_commands_reach_the_conversation() -> None:
    """Commands change settings, retry, change the system message, start again, and show figures."""
    dialogue = dialogue_of("a", "b c")
    assert output("/set temperature=0;seed=3", dialogue) == "Set: temperature=0.0, seed=3\n"
    assert output("/retry", dialogue) == "bc\n"
    assert output("/stats", dialogue).startswith("20 tokens, the first after ")
    output("/reset", dialogue)
    assert dialogue.messages == []
    output("/system  Be brief. ", dialogue)
    assert dialogue.messages == [{"role": "system", "content": "Be brief."}]


def test_save_writes_the_conversation(tmp_path: Path) -> None:
    """The file is JSON that a request accepts."""
    file = tmp_path / "a chat.json"
    assert output(f"/save {file}", dialogue_of("höre")) == f"Saved 2 messages to {file}.\n"
    assert json.loads(file.read_text(encoding="utf-8")) == {
        "model": "fake",
        "messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "höre"}],
    }


def test_exit_leaves() -> None:
    """It raises an exception that the code that reads lines catches."""
    with pytest.raises(Leave):
        output("/exit", dialogue_of("a"))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("/rest", r"no command /rest \(did you mean /reset\?\); /help"),
        ("/reset now", "/reset takes no argument, not 'now'"),
        ("/save", "/save needs an argument: type /save FILE"),
        ("/set seed", "/set: 'seed' is not of the form key=value"),
        ("/save /nowhere/at/all", "/nowhere/at/all can't be written"),
    ],
)
def test_a_wrong_command_is_told(line: str, fault: str) -> None:
    """The error says what to type instead."""
    with pytest.raises(ConfigError, match=fault):
        output(line, dialogue_of("a"))
