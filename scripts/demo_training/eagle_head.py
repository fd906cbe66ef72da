"""EAGLE's head (Li et al., 2024): one layer that follows the states of the model that it drafts for."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import (
    LlamaMLP,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
)


class KeysValues(NamedTuple):
    """The keys and values [n, kv heads, m, d] of one pass or of several."""

    keys: torch.Tensor
    values: torch.Tensor

    def followed_by(self, other: KeysValues) -> KeysValues:
        """These, and then the other ones."""
        return KeysValues(torch.cat([self.keys, other.keys], 2), torch.cat([self.values, other.values], 2))


class Attention(nn.Module):
    """A Llama's attention, over the rows of this pass and of earlier ones."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self._num_heads, self._head_dim = config.num_attention_heads, config.head_dim
        wide, narrow = (n * config.head_dim for n in (self._num_heads, config.num_key_value_heads))
        self.q_proj = nn.Linear(config.hidden_size, wide, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, narrow, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, narrow, bias=False)
        self.o_proj = nn.Linear(wide, config.hidden_size, bias=False)

    def forward(
        self,
        hidden: torch.Tensor,
        rotation: tuple[torch.Tensor, torch.Tensor],
        earlier: KeysValues | None,
        mask: torch.Tensor,
    ) -> tuple[torch.Tensor, KeysValues]:
        """The output [n, m, h], and the keys and values of all passes so far."""
        queries, keys, values = map(
            self._heads, (self.q_proj(hidden), self.k_proj(hidden), self.v_proj(hidden))
        )
        queries, keys = apply_rotary_pos_emb(queries, keys, *rotation)
        own = KeysValues(keys, values)
        seen = own if earlier is None else earlier.followed_by(own)
        num_sharing = self._num_heads // keys.shape[1]
        shared_keys, shared_values = (part.repeat_interleave(num_sharing, dim=1) for part in seen)
        mixed = scaled_dot_product_attention(queries, shared_keys, shared_values, attn_mask=mask)
        return self.o_proj(mixed.transpose(1, 2).flatten(2)), seen

    def _heads(self, features: torch.Tensor) -> torch.Tensor:
        num_rows, length, _ = features.shape
        return features.view(num_rows, length, -1, self._head_dim).transpose(1, 2)


class Layer(nn.Module):
    """A Llama's layer without the norm before its attention, as EAGLE has it."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = LlamaMLP(config)
        self.post_attention_layernorm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(
        self,
        hidden: torch.Tensor,
        rotation: tuple[torch.Tensor, torch.Tensor],
        earlier: KeysValues | None,
        mask: torch.Tensor,
    ) -> tuple[torch.Tensor, KeysValues]:
        """The output [n, m, h], and the keys and values of all passes so far."""
        attended, seen = self.self_attn(hidden, rotation, earlier, mask)
        hidden = hidden + attended
        return hidden + self.mlp(self.post_attention_layernorm(hidden)), seen


class EagleHead(nn.Module):
    """The head, whose parameters have the names of EAGLE's checkpoints. It has neither embeddings nor logits
    of its own: both are the target's.
    """

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.fc = nn.Linear(2 * config.hidden_size, config.hidden_size)
        self.layers = nn.ModuleList([Layer(config)])
        self._rotary = LlamaRotaryEmbedding(config)

    def forward(self, embeddings: torch.Tensor, hidden: torch.Tensor, num_passes: int) -> list[torch.Tensor]:
        """For each of `num_passes`, the guessed states [n, m, h].

        Row i of the first pass reads the target's state of token i, in `hidden` [n, m, h], and the embedding
        of token i + 1, in `embeddings` [n, m, h], and guesses the state of token i + 1. In each further pass,
        a row reads the state that the row before it has guessed in the last pass, so that row i of pass p
        guesses what it would as draft number p of a chain that began at row i - p. Only rows from p on mean
        something.
        """
        positions = torch.arange(hidden.shape[1])
        rotation = self._rotary(hidden, positions[None])
        seen: KeysValues | None = None
        guessed = []
        for number in range(num_passes):
            fused = self.fc(torch.cat([embeddings, hidden], -1))
            guess, seen = self.layers[0](fused, rotation, seen, chain_mask(positions, number))
            guessed.append(guess)
            hidden = torch.cat([hidden[:, :1], guess[:, :-1].to(hidden.dtype)], 1)
        return guessed


def chain_mask(positions: torch.Tensor, number: int) -> torch.Tensor:
    """Return bool [m, (number + 1) * m]: the rows of passes 0 to `number` that a row of pass `number` sees.

    It sees those at which its chain was: of the first pass all up to the row at which the chain began, and of
    each other pass one, the last of which is itself.
    """
    distances = positions[:, None] - positions[None]
    chain = [distances == number - later for later in range(1, number + 1)]
    return torch.cat([distances >= number, *chain], dim=1)
