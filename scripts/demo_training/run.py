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
from demo_training.preset import Preset

MATRIX_LR, OTHER_LR = 0.004, 1.5e-3
WARMUP_STEPS = 50  # while the learning rate rises
DECAY_SHARE = 0.6  # the last part of the run, in which the learning rate falls to 0


class Run:
    """One training run of `preset` from `seed`."""

    def __init__(self, preset: Preset, seed: int, tokenizer: Tokenizer) -> None:
        torch.manual_seed(seed)
        self.preset, self.seed, self.tokenizer, self.step = preset, seed, tokenizer, 0
        config = preset.llama_config(token_id(tokenizer, TURN_END), token_id(tokenizer, END_OF_TEXT))
        self.model = LlamaForCausalLM(config)
        self.model.set_attn_implementation("sdpa")  # takes a third less memory than "eager" in the same time
        self._encoder = Encoder(tokenizer)
        matrices = [p for p in self.model.model.layers.parameters() if p.ndim == 2]
        known = {id(p) for p in matrices}
        others = [p for p in self.model.parameters() if id(p) not in known]
        self._optimizers: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(matrices, lr=MATRIX_LR, weight_decay=0.01),
            torch.optim.AdamW(others, lr=OTHER_LR, betas=(0.9, 0.95), weight_decay=0.0),
        )

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
        for optimizer, saved in zip(run._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
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
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }
        unfinished = path.with_suffix(".unfinished")
        torch.save(state, unfinished)
        unfinished.replace(path)

    def advance(self, num_steps: int) -> float:
        """Do the next step of a run of `num_steps`, and return the mean loss of trained tokens in nats."""
        self._set_learning_rates(num_steps)
        batches = step_batches(self._encoder, self.seed, self.step, self.preset.samples_per_step)
        total_weight = float(sum(batch.weights.sum() for batch in batches))
        loss = sum(self._learn(batch, total_weight) for batch in batches)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        return loss

    def _learn(self, batch: Batch, total_weight: float) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.preset.bfloat16):
            logits = self.model(input_ids=batch.ids[:, :-1], use_cache=False).logits
        losses = cross_entropy(logits.float().flatten(0, 1), batch.targets.flatten(), reduction="none")
        loss = (losses * batch.weights.flatten()).sum() / total_weight
        torch.autograd.backward(loss)
        return float(loss.detach())

    def _set_learning_rates(self, num_steps: int) -> None:
        rising = (self.step + 1) / WARMUP_STEPS
        falling = (num_steps - self.step) / (num_steps * DECAY_SHARE)
        for optimizer, rate in zip(self._optimizers, (MATRIX_LR, OTHER_LR), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, rising, falling)
