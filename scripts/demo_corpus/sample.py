"""A conversation whose last message is the answer to learn, and the rule that holds some of them out.

This module knows nothing about tokens or task families.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]
Tool = dict[str, Any]

HELD_OUT_SHARE = 12  # one key in this many is never trained on


@dataclass(frozen=True)
class Sample:
    """A conversation of `family`. `key` names the content that is never trained on if it is held out."""

    family: str
    key: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Everything before the answer."""
        return self.messages[:-1]

    @property
    def question(self) -> str:
        """The text of the last user turn."""
        return str(self.messages[-2]["content"])

    @property
    def answer(self) -> str:
        """The text of the answer; only samples that end in text have one."""
        return str(self.messages[-1]["content"])


def user(text: str) -> Message:
    """A user message."""
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    """An assistant message of text."""
    return {"role": "assistant", "content": text}


def system(text: str) -> Message:
    """A system message."""
    return {"role": "system", "content": text}


def single_turn(family: str, key: str, question: str, answer: str) -> Sample:
    """One question and its answer."""
    return Sample(family, key, (user(question), assistant(answer)))


def normalise(text: str) -> str:
    """Lower case, letters and digits only, single spaces: what two casings of one question share."""
    kept = "".join(c if c.isalnum() or c == "-" else " " for c in text.lower())
    return " ".join(kept.split())


def is_held_out(key: str) -> bool:
    """Whether `key` belongs to the held-out split, which depends only on the key's content."""
    digest = hashlib.sha256(normalise(key).encode()).digest()
    return int.from_bytes(digest[:4], "big") % HELD_OUT_SHARE == 0
