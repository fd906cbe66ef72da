"""The cards of what drafts for the demo model: what it is, and how many of its guesses are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from demo_training.preset import DraftPreset

# Each kind's title, its mode, and what it is.
_DESCRIPTIONS = {
    "draft": (
        "A small draft model",
        "small_draft",
        """\
A Llama of {parameters:,} parameters that drafts for [the demo model](../model/README.md). It has the same
tokens, and is a chat model of its own, but a bad one: it is there to guess what the demo model says.

It has {draft_layers} layers, hidden size {draft_hidden}, {draft_heads} attention heads of {draft_head_dim}
features ({draft_kv_heads} of keys and values), feed-forward size {draft_intermediate}, and tied embeddings,
which began as the principal components of the demo model's. It learnt the demo model's distributions.""",
    ),
    "eagle": (
        "An EAGLE head",
        "eagle",
        """\
A head of {parameters:,} parameters, in the layout of EAGLE-1, that drafts for
[the demo model](../model/README.md). `fc` joins the demo model's state of a token, after the last norm, with
the embedding of the next token, and one layer makes of this a guess of the next state. Embeddings and the
matrix that makes logits are the demo model's, and not in this file.

The layer has {eagle_kv_heads} head of keys and values, and feed-forward size {eagle_intermediate}. It learnt
the demo model's states and the distributions that follow from them. It also learnt from its own guesses,
{eagle_passes} drafts deep.""",
    ),
    "medusa": (
        "Medusa heads",
        "medusa",
        """\
{medusa_heads} heads of {parameters:,} parameters in all that draft for [the demo model](../model/README.md).
From the state, after the last norm, of which the demo model draws the next token, the first head guesses
the token behind that one, and each further head one token more. The weights have the names that MLC reads.

A head is {medusa_layers} residual layer and a matrix that makes logits. It began as the demo model's own
head, and learnt the demo model's distributions of later tokens.""",
    ),
}

_CARD = """\
---
license: apache-2.0
language:
- en
---

# {title} for mlc_serve's demo model

{description}

## Use

```
mlc_serve serve --speculative-mode {mode}
```

This serves the demo model with it. Drafts never change what is generated.

## Scores

At each place in the demo model's greedy answers to {questions} held-out questions, the next tokens are
guessed. This is the share of places at which a guess, and all guesses before it, are the demo model's own
tokens:

| guess | kept |
|---|---|
{rows}

## Training

{steps:,} steps of {samples} conversations each from `scripts/demo_corpus`, without those of more than
{longest} tokens. All that drafts for the demo model was trained in this run, and the demo model was frozen.
Weight matrices were trained with Muon, the rest with AdamW. All matrices are stored as integers of 8 bits,
with a scale for each 64 weights of a row, in the form of compressed-tensors, and the scores are those of the
rounded weights. With mlc_serve, PyTorch and transformers installed, this trains it again:

```
python scripts/train_demo_drafts.py --out demo-drafts
```

## Licence

Apache-2.0, weights and training data alike.
"""


@dataclass(frozen=True)
class Results:
    """What came of a run for one student. `shares` has the share of kept guesses by number."""

    num_parameters: int
    num_steps: int
    num_questions: int
    shares: Sequence[float]


def draft_card(kind: str, results: Results, preset: DraftPreset) -> str:
    """The card, as Markdown, of a student of a kind: draft, eagle or medusa."""
    title, mode, description = _DESCRIPTIONS[kind]
    return _CARD.format(
        title=title,
        mode=mode,
        description=description.format(parameters=results.num_parameters, **_sizes(preset)),
        questions=results.num_questions,
        rows="\n".join(f"| {number} | {share:.1%} |" for number, share in enumerate(results.shares, 1)),
        steps=results.num_steps,
        samples=preset.samples_per_step,
        longest=preset.longest_sample,
    )


def _sizes(preset: DraftPreset) -> dict[str, int]:
    draft = preset.small_draft
    return {
        "draft_layers": draft.num_layers,
        "draft_hidden": draft.hidden_size,
        "draft_heads": draft.num_heads,
        "draft_head_dim": draft.head_dim,
        "draft_kv_heads": draft.num_kv_heads,
        "draft_intermediate": draft.intermediate_size,
        "eagle_kv_heads": preset.eagle_num_kv_heads,
        "eagle_intermediate": preset.eagle_intermediate_size,
        "eagle_passes": preset.eagle_num_passes,
        "medusa_heads": preset.medusa_num_heads,
        "medusa_layers": preset.medusa_num_layers,
    }
