"""Presets: the sizes of a model and of the run that trains it."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import LlamaConfig

ROPE_THETA = 10000.0
CONTEXT_LENGTH = 2048  # tokens


@dataclass(frozen=True)
class LlamaSizes:
    """Sizes of a Llama apart from its vocabulary, counted in features, layers and heads."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int

    def llama_config(self, vocab_size: int, turn_end_id: int, end_of_text_id: int) -> LlamaConfig:
        """The architecture, for transformers."""
        return LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.num_heads,
            num_key_value_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            max_position_embeddings=CONTEXT_LENGTH,
            rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=turn_end_id,
            pad_token_id=end_of_text_id,
        )


@dataclass(frozen=True)
class Preset:
    """Sizes of a model and its run, which are counted in tokens, conversations and steps."""

    sizes: LlamaSizes
    vocab_size: int
    num_steps: int
    samples_per_step: int
    tokenizer_samples: int
    evaluation_samples: int  # per family, while training
    final_samples: int  # per family, for the exported model
    checkpoint_every: int  # steps
    bfloat16: bool


@dataclass(frozen=True)
class DraftPreset:
    """Sizes of what drafts for a model, and of the run that trains it.

    A small draft is a model of its own. What EAGLE and Medusa add to a model has the features and the
    attention heads of that model. Runs are counted as those of Preset are.
    """

    small_draft: LlamaSizes
    eagle_intermediate_size: int
    eagle_num_kv_heads: int
    eagle_num_passes: int  # how many drafts deep EAGLE is trained on its own features
    medusa_num_heads: int
    medusa_num_layers: int
    num_steps: int
    samples_per_step: int
    longest_sample: int  # longer ones, most of whose tokens are not answers, are left out
    held_out_samples: int  # per family
    bfloat16: bool  # whether the target computes in it


PRESETS = {
    "full": Preset(
        sizes=LlamaSizes(
            hidden_size=256, intermediate_size=512, num_layers=6, num_heads=4, num_kv_heads=2, head_dim=64
        ),
        vocab_size=1024, num_steps=5800, samples_per_step=64, tokenizer_samples=20000, evaluation_samples=5,
        final_samples=50, checkpoint_every=400, bfloat16=True,
    ),
    "tiny": Preset(
        sizes=LlamaSizes(
            hidden_size=32, intermediate_size=64, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=16
        ),
        vocab_size=320, num_steps=12, samples_per_step=8, tokenizer_samples=200, evaluation_samples=1,
        final_samples=1, checkpoint_every=6, bfloat16=False,
    ),
}  # fmt: skip
DRAFT_PRESETS = {
    "full": DraftPreset(
        small_draft=LlamaSizes(
            hidden_size=128, intermediate_size=256, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=64
        ),
        eagle_intermediate_size=128, eagle_num_kv_heads=1, eagle_num_passes=2, medusa_num_heads=2,
        medusa_num_layers=1, num_steps=400, samples_per_step=32, longest_sample=256, held_out_samples=9,
        bfloat16=True,
    ),
    "tiny": DraftPreset(
        small_draft=LlamaSizes(
            hidden_size=16, intermediate_size=32, num_layers=1, num_heads=1, num_kv_heads=1, head_dim=16
        ),
        eagle_intermediate_size=32, eagle_num_kv_heads=1, eagle_num_passes=2, medusa_num_heads=2,
        medusa_num_layers=1, num_steps=4, samples_per_step=4, longest_sample=128, held_out_samples=1,
        bfloat16=False,
    ),
}  # fmt: skip
