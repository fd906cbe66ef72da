"""The commands of a chat, which begin with a slash."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from mlc_serve.chat.dialogue import Dialogue
from mlc_serve.config import ChatConfig
from mlc_serve.config.option import options_of
from mlc_serve.errors import ConfigError

Output = Generator[str, None, None]


class Leave(Exception):  # noqa: N818  not an error
    """The user wants to leave the chat."""


@dataclass(frozen=True)
class Command:
    """A command's argument ("" if it takes none), its help text, and the function that runs it."""

    argument: str
    help: str
    run: Callable[[Dialogue, str], Output]


def run_command(line: str, dialogue: Dialogue) -> Output:
    """Run the command on `line` and yield its output. Raises ConfigError if it is wrong, Leave for /exit."""
    name, _, argument = line.strip().partition(" ")
    command = COMMANDS.get(name)
    if command is None:
        near = get_close_matches(name, COMMANDS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ConfigError(f"there is no command {name}{hint}; /help lists them")
    argument = argument.strip()
    if argument and not command.argument:
        raise ConfigError(f"{name} takes no argument, not {argument!r}")
    if not argument and command.argument:
        raise ConfigError(f"{name} needs an argument: type {name} {command.argument}")
    return command.run(dialogue, argument)


def _help(_dialogue: Dialogue, _argument: str) -> Output:
    for name, command in COMMANDS.items():
        yield f"{f'{name} {command.argument}':20} {command.help}\n"
    yield "A backslash at the end of a line continues it on the next. Ctrl-C stops a reply.\n"


def _reset(dialogue: Dialogue, _argument: str) -> Output:
    dialogue.reset()
    yield "A new conversation.\n"


def _system(dialogue: Dialogue, argument: str) -> Output:
    dialogue.reset(argument)
    yield "A new conversation, with this system message.\n"


def _set(dialogue: Dialogue, argument: str) -> Output:
    dialogue.change(argument)
    chosen = ", ".join(f"{name}={value}" for name, value in dialogue.config.sampling().items())
    yield f"Set: {chosen}\n"


def _stats(dialogue: Dialogue, _argument: str) -> Output:
    yield f"{dialogue.stats or 'no reply yet'}\n"


def _retry(dialogue: Dialogue, _argument: str) -> Output:
    yield from dialogue.retry()
    yield "\n"


def _save(dialogue: Dialogue, argument: str) -> Output:
    content = {"model": dialogue.source.name, "messages": dialogue.messages}
    try:
        path = Path(argument).expanduser()
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except (OSError, RuntimeError, ValueError) as error:  # the latter two: no such home, invalid file name
        raise ConfigError(f"{argument} can't be written: {error}") from error
    yield f"Saved {len(dialogue.messages)} messages to {path}.\n"


def _exit(_dialogue: Dialogue, _argument: str) -> Output:
    raise Leave


_KEYS = ", ".join(declared.override for _, _, declared in options_of(ChatConfig) if declared.override)

COMMANDS: Mapping[str, Command] = {
    "/help": Command("", "list the commands", _help),
    "/reset": Command("", "begin a new conversation", _reset),
    "/system": Command("TEXT", "begin a new conversation with another system message", _system),
    "/set": Command("KEY=VALUE;...", f"change {_KEYS}", _set),
    "/retry": Command("", "answer the last question again", _retry),
    "/stats": Command("", "show how fast the last reply was", _stats),
    "/save": Command("FILE", "write the conversation as JSON", _save),
    "/exit": Command("", "leave, as Ctrl-D does", _exit),
}
