"""A small model with the target's tokens, which learns the target's distributions."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import LlamaForCausalLM

from demo_training.distillation import distillation_loss
from demo_training.export import export_tokens, llama_keys, llama_weights
from demo_training.packed_weights import export_packed
from demo_training.preset import LlamaSizes
from demo_training.target import Observed, Target


class SmallDraft:
    """Implements Student: a Llama that starts with the principal components of the target's embeddings."""

    def __init__(self, target: Target, sizes: LlamaSizes) -> None:
        config = target.config
        self._tokenizer = target.tokenizer
        self._model = LlamaForCausalLM(
            sizes.llama_config(config.vocab_size, config.eos_token_id, config.pad_token_id)
        )
        self._model.set_attn_implementation("sdpa")
        embeddings = target.model.model.embed_tokens.weight
        with torch.no_grad():
            self._model.model.embed_tokens.weight.copy_(_main_components(embeddings, sizes.hidden_size))

    @property
    def module(self) -> nn.Module:
        """See Student."""
        module: nn.Module = self._model
        return module

    @property
    def matrices(self) -> list[nn.Parameter]:
        """See Student."""
        return [parameter for parameter in self._model.model.layers.parameters() if parameter.ndim == 2]

    def loss(self, observed: Observed) -> torch.Tensor:
        """See Student."""
        hidden = self._model.model(input_ids=observed.ids[:, :-1], use_cache=False).last_hidden_state
        logits = self._model.lm_head(hidden[observed.answers])
        return distillation_loss(logits, observed.logits[observed.answers])

    def guesses(self, observed: Observed, most: int) -> list[torch.Tensor]:
        """See Student."""
        drawn = self._model(input_ids=observed.ids[:, :-1], use_cache=False).logits.argmax(-1)
        return [drawn[:, 1 + number :] for number in range(most)]

    def export(self, num_steps: int, directory: Path) -> None:
        """See Student."""
        config = self._model.config
        export_packed(llama_weights(self._model), llama_keys(config), num_steps, directory)
        export_tokens(self._tokenizer, config, directory)


def _main_components(matrix: torch.Tensor, num_components: int) -> torch.Tensor:
    """The rows of a matrix [n, h] in the `num_components` directions in which they differ most, scaled to a
    mean norm of 1, so that no logit is large at first.
    """
    _, _, directions = torch.linalg.svd(matrix, full_matrices=False)
    rows: torch.Tensor = matrix @ directions[:num_components].T
    norm: torch.Tensor = rows.norm(dim=1).mean()
    return rows / norm
