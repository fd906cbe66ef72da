"""Scores a model: the share of held-out questions it answers exactly, with greedy decoding, per family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from demo_corpus.chat import END_OF_TEXT, TURN_END, Encoder, expected_answer, token_id
from demo_corpus.mixture import FAMILIES, held_out_samples
from demo_corpus.sample import Sample
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

BATCH_SIZE = 32
TOKENS_TO_SPARE = 4  # room for an answer that goes on too long, so that it counts as wrong


@dataclass(frozen=True)
class Answer:
    """The tokens with which a model answers a sample. The last one ends its turn, unless that was cut off."""

    sample: Sample
    ids: list[int]


@dataclass(frozen=True)
class Verdict:
    """What a model answered to a sample."""

    sample: Sample
    answer: str

    @property
    def right(self) -> bool:
        """Whether the answer is exactly the expected one."""
        return self.answer.strip() == expected_answer(self.sample).strip()


def held_out_questions(per_family: int, seed: int) -> list[Sample]:
    """`per_family` held-out samples of every family; the same ones for the same seed."""
    rng = Random(f"{seed}/held out")
    return [sample for family in FAMILIES for sample in held_out_samples(rng, family, per_family)]


def greedy_answers(model: LlamaForCausalLM, tokenizer: Tokenizer, samples: Sequence[Sample]) -> list[Answer]:
    """The model's greedy answer to every sample, shortest prompts first."""
    encoder = Encoder(tokenizer)
    by_length = sorted(samples, key=lambda sample: len(encoder.prompt_ids(sample)))
    batches = [by_length[start : start + BATCH_SIZE] for start in range(0, len(by_length), BATCH_SIZE)]
    return [answer for batch in batches for answer in _answer_batch(model, tokenizer, encoder, batch)]


def judge(model: LlamaForCausalLM, tokenizer: Tokenizer, samples: Sequence[Sample]) -> list[Verdict]:
    """What the model's greedy answers say, shortest prompts first."""
    return [
        Verdict(answer.sample, tokenizer.decode(answer.ids, skip_special_tokens=False).removesuffix(TURN_END))
        for answer in greedy_answers(model, tokenizer, samples)
    ]


def scores(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """The share of right answers by family."""
    families = dict.fromkeys(verdict.sample.family for verdict in verdicts)
    return {family: share_right([v for v in verdicts if v.sample.family == family]) for family in families}


def share_right(verdicts: Sequence[Verdict]) -> float:
    """The share of right answers among `verdicts`, of which there is at least one."""
    return sum(verdict.right for verdict in verdicts) / len(verdicts)


def _answer_batch(
    model: LlamaForCausalLM, tokenizer: Tokenizer, encoder: Encoder, batch: list[Sample]
) -> list[Answer]:
    prompts = [encoder.prompt_ids(sample) for sample in batch]
    room = max(len(tokenizer.encode(expected_answer(sample)).ids) for sample in batch) + TOKENS_TO_SPARE
    length = max(map(len, prompts))
    padding, turn_end = token_id(tokenizer, END_OF_TEXT), token_id(tokenizer, TURN_END)
    ids = torch.tensor([[padding] * (length - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with torch.inference_mode():
        generated = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=room,
            do_sample=False, temperature=None, top_p=None, eos_token_id=turn_end, pad_token_id=padding,
        )  # fmt: skip
    answers = [_through(row.tolist(), turn_end) for row in generated[:, length:]]
    return [Answer(sample, answer) for sample, answer in zip(batch, answers, strict=True)]


def _through(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end) + 1] if end in ids else ids
