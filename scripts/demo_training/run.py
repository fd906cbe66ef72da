"""The model being trained, its optimizers and its step count, which can be saved and resumed.

This module knows nothing about scores and the exported directory.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import torch
from demo_corpus.chat import END_OF_TEXT, TURN_END, Encoder, render, token_id, train_tokenizer
from demo_corpus.mixture import training_sample
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM

from demo_training.batches import Batch, step_batches
from demo_training.optimizers import LearningRates, Optimizers
from demo_training.preset import Preset

RATES = LearningRates(matrices=0.004, others=1.5e-3)


class Run:
    """One training run of `preset` from `seed`."""

    def __init__(self, preset: Preset, seed: int, tokenizer: Tokenizer) -> None:
        torch.manual_seed(seed)
        self.preset, self.seed, self.tokenizer, self.step = preset, seed, tokenizer, 0
        turn_end, end_of_text = token_id(tokenizer, TURN_END), token_id(tokenizer, END_OF_TEXT)
        config = preset.sizes.llama_config(preset.vocab_size, turn_end, end_of_text)
        self.model = LlamaForCausalLM(config)
        self.model.set_attn_implementation("sdpa")  # takes a third less memory than "eager" in the same time
        self._encoder = Encoder(tokenizer)
        matrices = [p for p in self.model.model.layers.parameters() if p.ndim == 2]
        self._optimizers = Optimizers(self.model.parameters(), matrices, RATES)

    @classmethod
    def fresh(cls, preset: Preset, seed: int) -> Run:
        """A run at step 0 with a newly trained tokenizer."""
        rng = Random(f"{seed}/tokenizer")
        samples = (training_sample(rng) for _ in range(preset.tokenizer_samples))
        texts = (render(sample.messages, sample.tools) for sample in samples)
        return cls(preset, seed, train_tokenizer(texts, preset.vocab_size))

    @classmethod
    def load(cls, path: Path, preset: Preset) -> Run:
        """The run saved at `path`, ready for its next step."""
        state = torch.load(path, weights_only=True)
        tokenizer = Tokenizer.from_str(state["tokenizer"])
        run = cls.from_weights(preset, state["seed"], tokenizer, state["model"], state["step"])
        run._optimizers.restore(state["optimizers"])
        return run

    @classmethod
    def from_weights(
        cls, preset: Preset, seed: int, tokenizer: Tokenizer, weights: dict[str, torch.Tensor], step: int
    ) -> Run:
        """A run at `step` whose model has `weights` by name and whose optimizers are new."""
        run = cls(preset, seed, tokenizer)
        run.step = step
        run.model.load_state_dict(weights)
        return run

    def save(self, path: Path) -> None:
        """Write the whole run to `path`, which always has either the old or the new checkpoint."""
        state: dict[str, Any] = {
            "seed": self.seed,
            "step": self.step,
            "tokenizer": self.tokenizer.to_str(),
            "model": self.model.state_dict(),
            "optimizers": self._optimizers.state(),
        }
        unfinished = path.with_suffix(".unfinished")
        torch.save(state, unfinished)
        unfinished.replace(path)

    def advance(self, num_steps: int) -> float:
        """Do the next step of a run of `num_steps`, and return the mean loss of trained tokens in nats."""
        batches = step_batches(self._encoder, self.seed, self.step, self.preset.samples_per_step)
        total_weight = float(sum(batch.weights.sum() for batch in batches))
        loss = sum(self._learn(batch, total_weight) for batch in batches)
        self._optimizers.step(self.step, num_steps)
        self.step += 1
        return loss

    def _learn(self, batch: Batch, total_weight: float) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.preset.bfloat16):
            logits = self.model(input_ids=batch.ids[:, :-1], use_cache=False).logits
        losses = cross_entropy(logits.float().flatten(0, 1), batch.targets.flatten(), reduction="none")
        loss = (losses * batch.weights.flatten()).sum() / total_weight
        torch.autograd.backward(loss)
        return float(loss.detach())
