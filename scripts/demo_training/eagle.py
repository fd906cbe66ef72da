"""An EAGLE head, which learns the target's states and the distributions that the target makes of them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import smooth_l1_loss

from demo_training.distillation import distillation_loss
from demo_training.eagle_head import EagleHead
from demo_training.export import llama_keys
from demo_training.packed_weights import export_packed
from demo_training.preset import LlamaSizes
from demo_training.target import Observed, Target

REGRESSION_WEIGHT = 1.0  # of the distance of states, beside the cross entropy of distributions


class Eagle:
    """Implements Student. The head also learns from its own guesses, `num_passes` drafts deep."""

    def __init__(self, target: Target, intermediate_size: int, num_kv_heads: int, num_passes: int) -> None:
        config = target.config
        sizes = LlamaSizes(
            hidden_size=config.hidden_size,
            intermediate_size=intermediate_size,
            num_layers=1,
            num_heads=config.num_attention_heads,
            num_kv_heads=num_kv_heads,
            head_dim=config.head_dim,
        )
        self._target, self._num_passes = target, num_passes
        self._llama = sizes.llama_config(config.vocab_size, config.eos_token_id, config.pad_token_id)
        self._head = EagleHead(self._llama)

    @property
    def module(self) -> nn.Module:
        """See Student."""
        return self._head

    @property
    def matrices(self) -> list[nn.Parameter]:
        """See Student."""
        return [parameter for parameter in self._head.parameters() if parameter.ndim == 2]

    def loss(self, observed: Observed) -> torch.Tensor:
        """See Student."""
        loss = torch.zeros(())
        for number, guessed in enumerate(self._guessed(observed, self._num_passes)):
            expected = observed.expected(number)
            states, right = guessed[expected.asked], expected.hidden[expected.asked]
            distance = smooth_l1_loss(states.float(), right, reduction="none").mean(-1).sum()
            entropy = distillation_loss(self._target.logits(states), expected.logits[expected.asked])
            loss = loss + entropy + REGRESSION_WEIGHT * distance
        return loss

    def guesses(self, observed: Observed, most: int) -> list[torch.Tensor]:
        """See Student."""
        return [self._target.logits(guessed).argmax(-1) for guessed in self._guessed(observed, most)]

    def export(self, num_steps: int, directory: Path) -> None:
        """See Student."""
        config = llama_keys(self._llama) | {"bias": True}
        export_packed(self._head.state_dict(), config, num_steps, directory)

    def _guessed(self, observed: Observed, num_passes: int) -> list[torch.Tensor]:
        """The guessed states, by place as in Expected."""
        embeddings = self._target.embeddings(observed.ids[:, 1:-1])
        passes = self._head(embeddings, observed.hidden[:, :-1], num_passes)
        return [guessed[:, number:] for number, guessed in enumerate(passes)]
