"""The whole mixture: every family with its share, and samples of its two splits."""

from __future__ import annotations

from random import Random

from demo_corpus.dialogue import dialogues
from demo_corpus.long_prompts import long_prompts
from demo_corpus.sample import Sample, is_held_out
from demo_corpus.singles import SINGLES, Family, trainable
from demo_corpus.system_prompts import system_prompts
from demo_corpus.tool_use import out_of_reach, tool_calls, tool_results, tool_schemas, tools_unused

FAMILIES: dict[str, tuple[Family, float]] = SINGLES | {
    "out_of_reach": (out_of_reach, 1),
    "system_prompts": (system_prompts, 9),
    "dialogues": (dialogues, 9),
    "tool_calls": (tool_calls, 8),
    "tool_results": (tool_results, 3),
    "tools_unused": (tools_unused, 7),
    "long_prompts": (long_prompts, 1.5),
    "tool_schemas": (tool_schemas, 24),
}


def training_sample(rng: Random) -> Sample:
    """A sample of any family that is not held out."""
    names = list(FAMILIES)
    (name,) = rng.choices(names, [FAMILIES[name][1] for name in names])
    return trainable(rng, FAMILIES[name][0])


def held_out_samples(rng: Random, family: str, count: int) -> list[Sample]:
    """`count` samples of `family` that are never trained on, each prompt once."""
    found: dict[str, Sample] = {}
    while len(found) < count:
        sample = FAMILIES[family][0](rng)
        if is_held_out(sample.key):
            found.setdefault(repr(sample.prompt), sample)
    return list(found.values())
