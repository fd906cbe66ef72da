"""The model that is drafted for. It is frozen, and says what there is to guess."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from demo_training.batches import Batch


@dataclass(frozen=True)
class Expected:
    """What guess number k (from 0) should be, by the place at which it is made.

    At place i, the model has computed the tokens up to i and drawn token i + 1, and guess number k is of
    token i + 2 + k. asked: bool [n, m], whether the drawn and the guessed token are the assistant's; ids:
    int64 [n, m], the guessed token; logits: float32 [n, m, v], from which the model draws it; hidden: float32
    [n, m, h], of which these logits are made.
    """

    asked: torch.Tensor
    ids: torch.Tensor
    logits: torch.Tensor
    hidden: torch.Tensor


@dataclass(frozen=True)
class Observed:
    """A batch as the target reads it.

    ids: int64 [n, l]; answers: bool [n, l - 1], whether token i + 1 is the assistant's; hidden: float32
    [n, l - 1, h], after the last norm; logits: float32 [n, l - 1, v] of token i + 1.
    """

    ids: torch.Tensor
    answers: torch.Tensor
    hidden: torch.Tensor
    logits: torch.Tensor

    def expected(self, number: int) -> Expected:
        """What guess `number` should be, at each place from which it can be made."""
        behind = number + 1
        return Expected(
            asked=self.answers[:, :-behind] & self.answers[:, behind:],
            ids=self.ids[:, behind + 1 :],
            logits=self.logits[:, behind:],
            hidden=self.hidden[:, behind:],
        )


class Target:
    """A Llama with its tokenizer."""

    def __init__(self, model: LlamaForCausalLM, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model.eval().requires_grad_(False), tokenizer

    @classmethod
    def load(cls, directory: Path) -> Target:
        """The model of a Hugging Face directory."""
        model = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32)
        return cls(model, Tokenizer.from_file(str(directory / "tokenizer.json")))

    @property
    def config(self) -> LlamaConfig:
        """The sizes of the model, and the tokens that it ends with."""
        return self.model.config

    def observe(self, batch: Batch) -> Observed:
        """Read a batch."""
        with torch.no_grad():
            hidden = self.model.model(input_ids=batch.ids[:, :-1], use_cache=False).last_hidden_state
            logits = self.logits(hidden)
        return Observed(batch.ids, batch.weights.bool(), hidden.float(), logits.float())

    def embeddings(self, ids: torch.Tensor) -> torch.Tensor:
        """The embeddings [..., h] of tokens."""
        embedded: torch.Tensor = self.model.model.embed_tokens(ids)
        return embedded

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The logits [..., v] of states [..., h] after the last norm, or of guesses of such states."""
        logits: torch.Tensor = self.model.lm_head(hidden)
        return logits
