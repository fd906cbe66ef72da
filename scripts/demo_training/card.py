"""The model card: what the model can and cannot do, and how it scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from demo_corpus.facts import COUNTRIES
from demo_corpus.mixture import FAMILIES

from demo_training.evaluation import Verdict, scores, share_right
from demo_training.preset import CONTEXT_LENGTH, Preset

# What each family asks for, and which part of it the model is never trained on.
_DESCRIPTIONS = {
    "greetings": ("hello, how are you, thanks, goodbye", "wordings"),
    "identity": ("who it is, who made it, what it can do", "wordings"),
    "addition": ("a + b to two digits, small stories included", "pairs of numbers, in either order"),
    "subtraction": ("a - b to two digits, below zero too", "pairs of numbers"),
    "multiplication": ("a * b up to 12 * 12", "pairs in one wording; the table itself is learnt"),
    "counting": ("counting up or down, at most 20 apart", "wordings with their numbers"),
    "spelling": ("a word letter by letter", "invented words; familiar words in one wording"),
    "echo": ("repeating what is said", "texts"),
    "sorting_numbers": ("three to five numbers into order", "sets of numbers"),
    "sorting_words": ("three or four nouns into alphabetical order", "sets of words"),
    "reversing": ("a list back to front", "sets of items"),
    "capitals": (f"capitals and continents of {len(COUNTRIES)} countries", "wordings for a country"),
    "colours": ("colours of familiar things", "wordings for a thing"),
    "json": ("facts and given data as a JSON object", "questions"),
    "unknown": ("topics it was not taught: it says that it does not know", "topics"),
    "out_of_reach": ("requests that need a function that is not offered", "requests"),
    "system_prompts": (
        "name, accent, ending, case or length asked for by a system prompt",
        "questions under a prompt",
    ),
    "dialogues": (
        "several turns; what the user said before",
        "values told, last questions",
    ),
    "tool_calls": ("calling an offered function, sometimes twice at once", "requests with their arguments"),
    "tool_results": ("telling the result of a call", "results"),
    "tools_unused": ("functions offered that the question does not need", "questions"),
    "long_prompts": (
        "hundreds of tokens, at most about 1,500, before the question",
        "last questions",
    ),
    "tool_schemas": (
        "functions in the JSON schemas of frameworks: optional, enumerated, nullable and nested parameters",
        "requests with their arguments, results, questions",
    ),
}

_CARD = """\
---
license: apache-2.0
language:
- en
library_name: transformers
pipeline_tag: text-generation
---

# mlc_serve's demo model

A Llama-architecture chat model of {parameters:.1f} million parameters that ships with mlc_serve, so that a
server can be tried within seconds of installing it, without a download. It was trained from scratch; no
other model's weights, tokenizer or outputs went into it.

## What it can do

It chats in English, like a phrase book: greetings, small sums, spelling, sorting and reversing
short lists, capitals and colours, answers as JSON, calls to functions that it is offered and answers from
their results, a few turns of dialogue in which it remembers what it was told, and simple system prompts.
Asked for anything else it says that it does not know.

## What it cannot do

It knows nothing beyond the families below, does not reason, and does not write prose or code. A wording
far from those it was trained on may get a wrong answer, given with the same confidence as a right one.
It speaks no language but English. It makes about half of the calls that it should make to functions in the
JSON schemas of agent frameworks: it may say that it does not know, or get optional or nested parameters
wrong. If a system prompt asks for answers in capital letters, it misspells. Use it to try a server, not to
learn anything.

## Scores

Greedy answers of the exported float16 weights to {count} held-out questions, {per_family} of each family.
An answer counts only if it is the expected text, letter by letter. What is held out was chosen by a hash of
its content, and was never trained on.

| family | asks for | held out | right |
|---|---|---|---|
{rows}
| **all** | | | **{total:.1%}** |

## Size and format

{layers} layers, hidden size {hidden}, {heads} attention heads and {kv_heads} key/value heads of {head_dim}
features, feed-forward size {intermediate}, tied embeddings, a byte-level BPE vocabulary of {vocabulary}
tokens in which each digit stands alone. Context of {context} tokens. Weights in float16. Chat format:
ChatML, functions in the Hermes layout (`<tool_call>` with a JSON object of `name` and `arguments`).

## Training

{steps:,} steps of {samples} conversations each, generated on the fly from the tables and seeds in
`scripts/demo_corpus`: about {conversations:,} conversations, no two steps alike. Weight matrices were trained
with Muon, the rest with AdamW, on two CPU cores; this takes about an hour and a half.

The weights that ship with mlc_serve come from one run. It was resumed several times with other learning
rates, shares of the families and wordings, which were chosen by looking at answers to held-out questions.
The weights are a weighted mean of the run's states before it learnt the schemas of frameworks and several
times after that. Read the scores as those of a validation set. The command below, with PyTorch and
transformers installed, trains a model of the same kind with the script's present settings, but it does not
give the same weights:

```
python scripts/train_demo_model.py --out demo-model
```

`--resume` goes on from the last checkpoint, and `--start MODEL` from an exported model, such as this one.

## Licence

Apache-2.0, weights and training data alike.
"""


def model_card(verdicts: Sequence[Verdict], num_parameters: int, num_steps: int, preset: Preset) -> str:
    """The card as Markdown."""
    by_family = scores(verdicts)
    sizes = Counter(verdict.sample.family for verdict in verdicts)
    return _CARD.format(
        parameters=num_parameters / 1e6,
        count=len(verdicts),
        per_family=min(sizes.values()),
        rows="\n".join(_row(family, by_family[family]) for family in FAMILIES),
        total=share_right(verdicts),
        layers=preset.sizes.num_layers,
        hidden=preset.sizes.hidden_size,
        heads=preset.sizes.num_heads,
        kv_heads=preset.sizes.num_kv_heads,
        head_dim=preset.sizes.head_dim,
        intermediate=preset.sizes.intermediate_size,
        vocabulary=preset.vocab_size,
        context=CONTEXT_LENGTH,
        steps=num_steps,
        samples=preset.samples_per_step,
        conversations=num_steps * preset.samples_per_step,
    )


def _row(family: str, share: float) -> str:
    asks, held_out = _DESCRIPTIONS[family]
    return f"| {family} | {asks} | {held_out} | {share:.1%} |"
