"""The chat format: the model's Jinja template, its tokenizer, and which tokens are trained on.

This module knows nothing about the task families.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from demo_corpus.sample import Message, Sample, Tool

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CALL_START, CALL_END = "<tool_call>", "</tool_call>"
CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja").read_text(encoding="utf-8").rstrip("\n")


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _compiled(source: str) -> Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = _to_json
    return environment.from_string(source)


_TEMPLATE = _compiled(CHAT_TEMPLATE)


def render(messages: Sequence[Message], tools: Sequence[Tool] = (), answer_next: bool = False) -> str:
    """The conversation as the model reads it, with the assistant's turn opened if `answer_next`."""
    return _TEMPLATE.render(
        messages=list(messages), tools=list(tools) or None, add_generation_prompt=answer_next
    )


def expected_answer(sample: Sample) -> str:
    """The text that the model should generate for the sample's prompt, without the end of its turn."""
    prompt = render(sample.prompt, sample.tools, answer_next=True)
    return render(sample.messages, sample.tools)[len(prompt) :].removesuffix(f"{TURN_END}\n")


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE over `texts` in which every digit is a separate token."""
    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    calls = [AddedToken(text, special=False, normalized=False) for text in (CALL_START, CALL_END)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(calls),
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens(calls)
    return tokenizer


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of `token`. Raises LookupError if the tokenizer does not have it."""
    found = tokenizer.token_to_id(token)
    if found is None:
        raise LookupError(f"the tokenizer has no token {token!r}")
    return found


@dataclass(frozen=True)
class Lesson:
    """Token ids of one conversation and, token by token, whether the assistant writes it."""

    ids: list[int]
    learnt: list[bool]


class Encoder:
    """Turns samples into lessons with one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._opening = tokenizer.encode(f"{TURN_START}assistant\n").ids
        self._turn_end = token_id(tokenizer, TURN_END)

    def prompt_ids(self, sample: Sample) -> list[int]:
        """Ids of the sample's prompt with the assistant's turn opened."""
        ids: list[int] = self._tokenizer.encode(render(sample.prompt, sample.tools, answer_next=True)).ids
        return ids

    def lesson(self, sample: Sample) -> Lesson:
        """The whole conversation. The assistant's text includes the end of its turn."""
        ids: list[int] = self._tokenizer.encode(render(sample.messages, sample.tools)).ids
        return Lesson(ids, self._assistant_mask(ids))

    def _assistant_mask(self, ids: list[int]) -> list[bool]:
        width, writing, mask = len(self._opening), False, []
        for position, token in enumerate(ids):
            writing = writing or ids[max(0, position - width) : position] == self._opening
            mask.append(writing)
            writing = writing and token != self._turn_end
        return mask
