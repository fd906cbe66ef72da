"""What latent attention says about itself."""

from __future__ import annotations

from mlc_serve.models.parts.attention import AttentionLayer
from mlc_serve.models.parts.latent_attention import LatentAttention


def test_the_cache_has_one_latent_for_all_heads() -> None:
    """Its end is the value, so that DeepSeek's models keep 576 values a token and layer."""
    shape = LatentAttention(16, None, 512, 128, 64, 128, (AttentionLayer(None),), 0.1).shape
    assert shape.num_stored * shape.head_dim == 576
    assert (shape.value_dim, shape.out_width, shape.num_heads) == (512, 16 * 512, 17)


def test_weights_have_canonical_names() -> None:
    """Each head's weights of keys are for queries, and have as many columns as these."""
    plain = LatentAttention(4, None, 32, 24, 16, 20, (), 0.1)
    of_both = {
        "a.kv_a_proj.weight": (48, 64),
        "a.latent.norm.weight": (32,),
        "a.latent.k_up_proj.weight": (4 * 32, 24),
        "a.latent.v_up_proj.weight": (4 * 20, 32),
        "a.o_proj.weight": (64, 80),
    }
    assert dict(plain.weights("a", 64)) == {"a.q_proj.weight": (160, 64)} | of_both
    assert dict(LatentAttention(4, 40, 32, 24, 16, 20, (), 0.1, bias=True).weights("a", 64)) == of_both | {
        "a.q_a_proj.weight": (40, 64),
        "a.q_a_proj.bias": (40,),
        "a.q_a_layernorm.weight": (40,),
        "a.q_b_proj.weight": (160, 40),
        "a.kv_a_proj.bias": (48,),
        "a.o_proj.bias": (64,),
    }
