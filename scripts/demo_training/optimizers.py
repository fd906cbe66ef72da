"""The optimizers of a run: Muon for weight matrices, AdamW for all other parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Parameter
from torch.nn.utils import clip_grad_norm_

WARMUP_STEPS = 50  # while the learning rate rises
DECAY_SHARE = 0.6  # the last part of the run, in which the learning rate falls to 0


@dataclass(frozen=True)
class LearningRates:
    """The highest learning rates of a run, for weight matrices and for all other parameters."""

    matrices: float
    others: float


class Optimizers:
    """Changes parameters by their gradients, with a learning rate that rises, stays and falls."""

    def __init__(
        self, parameters: Iterable[Parameter], matrices: Iterable[Parameter], rates: LearningRates
    ) -> None:
        """`matrices` are those of the parameters that Muon is made for."""
        self._rates = rates.matrices, rates.others
        self._parameters, chosen = list(parameters), list(matrices)
        known = {id(parameter) for parameter in chosen}
        others = [parameter for parameter in self._parameters if id(parameter) not in known]
        self._optimizers: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(chosen, lr=rates.matrices, weight_decay=0.01),
            torch.optim.AdamW(others, lr=rates.others, betas=(0.9, 0.95), weight_decay=0.0),
        )

    def state(self) -> list[dict[str, Any]]:
        """What `restore` takes."""
        return [optimizer.state_dict() for optimizer in self._optimizers]

    def restore(self, state: Sequence[dict[str, Any]]) -> None:
        """Go on as the optimizers with that state would."""
        for optimizer, saved in zip(self._optimizers, state, strict=True):
            optimizer.load_state_dict(saved)

    def step(self, number: int, num_steps: int) -> None:
        """Change the parameters in step `number` of `num_steps`, and forget their gradients."""
        self._set_learning_rates(number, num_steps)
        clip_grad_norm_(self._parameters, 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad()

    def _set_learning_rates(self, number: int, num_steps: int) -> None:
        rising = (number + 1) / WARMUP_STEPS
        falling = (num_steps - number) / (num_steps * DECAY_SHARE)
        for optimizer, rate in zip(self._optimizers, self._rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, rising, falling)
