"""A run that trains several students of one target on the same batches, which the target reads once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from demo_corpus.chat import Encoder

from demo_training.batches import Batch, step_batches
from demo_training.optimizers import LearningRates, Optimizers
from demo_training.preset import DraftPreset
from demo_training.student import Student
from demo_training.target import Target

RATES = LearningRates(matrices=0.012, others=3e-3)


class DraftRun:
    """The students by name, their optimizers and the step count."""

    def __init__(
        self, target: Target, students: Mapping[str, Student], preset: DraftPreset, seed: int
    ) -> None:
        self.students, self.step = students, 0
        self._target, self._preset, self._seed = target, preset, seed
        self._encoder = Encoder(target.tokenizer)
        self._optimizers = {
            name: Optimizers(student.module.parameters(), student.matrices, RATES)
            for name, student in students.items()
        }

    def advance(self, num_steps: int) -> dict[str, float]:
        """Do the next step of a run of `num_steps`, and return each student's mean loss of trained tokens."""
        preset = self._preset
        batches = step_batches(
            self._encoder, self._seed, self.step, preset.samples_per_step, preset.longest_sample
        )
        total_weight = float(sum(batch.weights.sum() for batch in batches))
        losses = dict.fromkeys(self.students, 0.0)
        for batch in batches:
            for name, loss in self._learn(batch, total_weight).items():
                losses[name] += loss
        for optimizers in self._optimizers.values():
            optimizers.step(self.step, num_steps)
        self.step += 1
        return losses

    def _learn(self, batch: Batch, total_weight: float) -> dict[str, float]:
        with torch.autocast("cpu", torch.bfloat16, enabled=self._preset.bfloat16):
            observed = self._target.observe(batch)
        losses = {name: student.loss(observed) / total_weight for name, student in self.students.items()}
        for loss in losses.values():
            torch.autograd.backward(loss)
        return {name: float(loss.detach()) for name, loss in losses.items()}
