"""Medusa (Cai et al., 2024): heads that guess later tokens from the state that the next one is drawn from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import silu

from demo_training.distillation import distillation_loss
from demo_training.packed_weights import export_packed
from demo_training.target import Observed, Target


class ResidualBlock(nn.Module):
    """Adds to a state what one layer makes of it. At first, it adds nothing."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, hidden_size)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """The new states [..., h]."""
        return hidden + silu(self.linear(hidden))


class MedusaHeads(nn.Module):
    """The heads, whose parameters have the names of the checkpoints that MLC reads."""

    def __init__(self, num_heads: int, num_layers: int, hidden_size: int, vocab_size: int) -> None:
        super().__init__()
        self.medusa_head = nn.ModuleList(
            nn.ModuleList(
                [
                    *(ResidualBlock(hidden_size) for _ in range(num_layers)),
                    nn.Linear(hidden_size, vocab_size, bias=False),
                ]
            )
            for _ in range(num_heads)
        )

    @property
    def num_heads(self) -> int:
        """How many later tokens are guessed."""
        return len(self.medusa_head)

    def forward(self, hidden: torch.Tensor, number: int) -> torch.Tensor:
        """The logits [..., v] of head `number` for states [..., h]."""
        for block in self.medusa_head[number].children():
            hidden = block(hidden)
        return hidden


class Medusa:
    """Implements Student: each head starts as the target's own, and learns what it draws later."""

    def __init__(self, target: Target, num_heads: int, num_layers: int) -> None:
        sizes = target.config.hidden_size, target.config.vocab_size
        self._heads = MedusaHeads(num_heads, num_layers, *sizes)
        self._config = {
            "model_type": "medusa",
            "medusa_num_heads": num_heads,
            "medusa_num_layers": num_layers,
            "hidden_size": target.config.hidden_size,
            "vocab_size": target.config.vocab_size,
        }
        with torch.no_grad():
            for name, weight in self._heads.named_parameters():
                if name.endswith(f".{num_layers}.weight"):
                    weight.copy_(target.model.lm_head.weight)

    @property
    def module(self) -> nn.Module:
        """See Student."""
        return self._heads

    @property
    def matrices(self) -> list[nn.Parameter]:
        """See Student."""
        return [weight for name, weight in self._heads.named_parameters() if name.endswith("linear.weight")]

    def loss(self, observed: Observed) -> torch.Tensor:
        """See Student."""
        loss = torch.zeros(())
        for number in range(self._heads.num_heads):
            expected = observed.expected(number)
            hidden = observed.hidden[:, : expected.ids.shape[1]]
            logits = self._heads(hidden[expected.asked], number)
            loss = loss + distillation_loss(logits, expected.logits[expected.asked])
        return loss

    def guesses(self, observed: Observed, most: int) -> list[torch.Tensor]:
        """See Student."""
        return [
            self._heads(observed.hidden[:, : -(number + 1)], number).argmax(-1)
            for number in range(min(most, self._heads.num_heads))
        ]

    def export(self, num_steps: int, directory: Path) -> None:
        """See Student."""
        export_packed(self._heads.state_dict(), self._config, num_steps, directory)
