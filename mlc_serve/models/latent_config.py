"""Reads what configurations of DeepSeek's models have in common, and names their weights."""

from __future__ import annotations

from dataclasses import replace

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config, flag, index, number, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.decoder_config import read_decoder, read_norm, read_num_layers
from mlc_serve.models.expert_config import check_silu, expert_names, mlc_expert_names, read_active
from mlc_serve.models.parts.attention import AttentionLayer
from mlc_serve.models.parts.block import Block
from mlc_serve.models.parts.experts import Experts, Routing
from mlc_serve.models.parts.latent_attention import LatentAttention
from mlc_serve.models.parts.mlp import MLP
from mlc_serve.models.rope_config import read_rope, read_score_factor
from mlc_serve.models.weight_changes import Both, Rows, SomeRows, Stacked, TransposedEach
from mlc_serve.models.weight_names import GATE_UP, WeightNames, renamed

_MOST_FACTOR = 1e3  # of experts' results
_MOST_DIMENSIONS = 2**16  # of a head or a latent, and heads: a bound, because each row is listed
_MOST_ROWS = 2**24


def read_latent_decoder(
    config: Config, routing: Routing, *, num_active: int | None, num_shared: int, num_dense: int
) -> Decoder:
    """A decoder with latent attention, whose layers have mixtures of experts from some layer on. The numbers
    are those of a configuration that does not say how many experts a token is sent to, how many are shared,
    and how many layers have an MLP instead.
    """
    check_silu(config)
    attention, norm = read_latent_attention(config), read_norm(config)
    experts = _read_experts(config, routing, num_active, num_shared)
    dense = MLP(size(config, "intermediate_size"))
    blocks = [
        Block(attention, experts if is_sparse else dense, norm)
        for is_sparse in _sparse_layers(config, num_dense)
    ]
    is_interleaved = flag(config, "rope_interleave", default=True)
    names = _names(attention, experts.num_experts, is_interleaved=is_interleaved)
    return read_decoder(config, names, blocks)


def read_latent_attention(config: Config) -> LatentAttention:
    """The attention of all layers."""
    num_heads = size(config, "num_attention_heads", up_to=_MOST_DIMENSIONS)
    if size(config, "num_key_value_heads", num_heads) != num_heads:
        raise CheckpointError(
            f"num_key_value_heads must be num_attention_heads, {num_heads}, for latent attention"
        )
    turned, plain, values, rank = (
        size(config, key, default, up_to=_MOST_DIMENSIONS)
        for key, default in (
            ("qk_rope_head_dim", 64),
            ("qk_nope_head_dim", 128),
            ("v_head_dim", 128),
            ("kv_lora_rank", 512),
        )
    )
    if turned % 2:
        raise CheckpointError(f"qk_rope_head_dim must be even, not {turned}")
    if num_heads * (turned + plain + values) > _MOST_ROWS:
        raise CheckpointError(f"num_attention_heads: {num_heads} such wide heads are not supported")
    rope = replace(read_rope({**config, "head_dim": turned}), rotary_dim=turned)
    return LatentAttention(
        num_heads,
        _q_rank(config),
        rank,
        plain,
        turned,
        values,
        (AttentionLayer(rope),) * read_num_layers(config),
        (turned + plain) ** -0.5 * read_score_factor(config),
        flag(config, "attention_bias"),
    )


def _q_rank(config: Config) -> int | None:
    if "q_lora_rank" in config and config["q_lora_rank"] is None:
        return None
    return size(config, "q_lora_rank", 1536)


def _read_experts(config: Config, routing: Routing, num_active: int | None, num_shared: int) -> Experts:
    num_experts, inner = size(config, "n_routed_experts"), size(config, "moe_intermediate_size")
    is_shared = config.get("n_shared_experts", num_shared) is not None
    shared = index(config, "n_shared_experts", num_shared) if is_shared else 0
    factor = number(config, "routed_scaling_factor", 0, _MOST_FACTOR, routing.factor)
    return Experts(
        num_experts,
        read_active(config, num_experts, num_active),
        inner,
        routing=replace(routing, factor=factor),
        shared=shared * inner or None,
    )


def _sparse_layers(config: Config, num_dense: int) -> list[bool]:
    """Which layers have experts."""
    first, frequency = index(config, "first_k_dense_replace", num_dense), size(config, "moe_layer_freq", 1)
    return [layer >= first and layer % frequency == 0 for layer in range(read_num_layers(config))]


def _names(part: LatentAttention, num_experts: int, *, is_interleaved: bool) -> WeightNames:
    """Keys and values are made of a latent by one product with the rows of all heads, for each head those of
    its key before those of its value.
    """
    attention, shared = "self_attn", "mlp.shared_expert"
    queries = Rows(_query_rows(part, is_interleaved=is_interleaved))
    key = _turned_first(part.qk_rope_head_dim, part.kv_lora_rank, is_interleaved=is_interleaved)
    key_rows, value_rows = _up_rows(part)
    stored = part.num_heads * (part.qk_nope_head_dim + part.v_head_dim)
    keys = Both(SomeRows(key_rows, stored), TransposedEach(part.qk_nope_head_dim))
    of_both = (
        renamed(f"{attention}.q_proj", f"{attention}.q_proj", change=queries),
        renamed(f"{attention}.q_b_proj", f"{attention}.q_b_proj", change=queries),
        renamed(f"{attention}.kv_a_proj", f"{attention}.kv_a_proj_with_mqa", change=Rows(key)),
        renamed(f"{attention}.latent.norm", f"{attention}.kv_a_layernorm"),
    )
    return WeightNames(
        huggingface=(
            *of_both,
            renamed(f"{attention}.latent.k_up_proj", f"{attention}.kv_b_proj", change=keys),
            renamed(
                f"{attention}.latent.v_up_proj", f"{attention}.kv_b_proj", change=SomeRows(value_rows, stored)
            ),
            GATE_UP,
            renamed("mlp.router.correction", "mlp.gate.e_score_correction_bias"),
            renamed("mlp.router", "mlp.gate"),
            *expert_names(num_experts, "mlp.experts", ("gate_proj", "up_proj"), "down_proj"),
            renamed(f"{shared}.gate_up_proj", f"{shared}s.gate_proj", f"{shared}s.up_proj"),
            renamed(f"{shared}.down_proj", f"{shared}s.down_proj"),
        ),
        mlc=(
            *of_both,
            renamed(
                f"{attention}.latent.k_up_proj.weight", f"{attention}.w_uk", change=Stacked(part.num_heads)
            ),
            renamed(
                f"{attention}.latent.v_up_proj.weight", f"{attention}.w_uv", change=Stacked(part.num_heads)
            ),
            renamed("mlp.router.correction", "mlp.e_score_correction_bias"),
            renamed("mlp.router", "mlp.gate"),
            renamed(shared, f"{shared}s"),
            *mlc_expert_names(num_experts, "mlp.moe_gate_up_proj", "mlp.moe_down_proj"),
        ),
    )


def _turned_first(turned: int, others: int, *, is_interleaved: bool) -> tuple[int, ...]:
    """The dimensions of a head or of a key in our order: those that turn, in halves, and then the others.
    Checkpoints have the others first.
    """
    first = range(others, others + turned)
    pairs = [*first[::2], *first[1::2]] if is_interleaved else list(first)
    return (*pairs, *range(others))


def _query_rows(part: LatentAttention, *, is_interleaved: bool) -> tuple[int, ...]:
    """The rows of all heads' queries in our order."""
    order = _turned_first(part.qk_rope_head_dim, part.qk_nope_head_dim, is_interleaved=is_interleaved)
    return tuple(head * part.q_head_dim + row for head in range(part.num_heads) for row in order)


def _up_rows(part: LatentAttention) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The rows of the stored product that give keys, and those that give values."""
    num_keys, each = part.qk_nope_head_dim, part.qk_nope_head_dim + part.v_head_dim
    firsts = range(0, part.num_heads * each, each)
    return (
        tuple(first + row for first in firsts for row in range(num_keys)),
        tuple(first + row for first in firsts for row in range(num_keys, each)),
    )
