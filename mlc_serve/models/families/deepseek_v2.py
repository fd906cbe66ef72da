"""DeepSeek-V2 and DeepSeek-V2-Lite (DeepSeek, 2024): latent attention, and mixtures of many experts."""

from __future__ import annotations

import reprlib

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config, flag, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.latent_config import read_latent_decoder
from mlc_serve.models.parts.experts import ExpertGroups, Routing

_GREEDY, _LIMITED = "greedy", "group_limited_greedy"


def read_deepseek_v2(config: Config) -> Decoder:
    """See FAMILIES."""
    if config.get("scoring_func", "softmax") != "softmax":
        raise CheckpointError(f"scoring_func {reprlib.repr(config['scoring_func'])} is not supported")
    for key, reason in (
        ("norm_topk_prob", "programs differ in what it means"),
        ("mlp_bias", "experts have no biases"),
    ):
        if flag(config, key):
            raise CheckpointError(f"{key} is not supported for deepseek_v2: {reason}")
    routing = Routing(groups=_read_groups(config))
    return read_latent_decoder(config, routing, num_active=None, num_shared=2, num_dense=0)


def _read_groups(config: Config) -> ExpertGroups | None:
    method = config.get("topk_method") or _GREEDY
    if method not in (_GREEDY, _LIMITED):
        raise CheckpointError(
            f"topk_method {reprlib.repr(method)} is not supported; supported are {_GREEDY}, {_LIMITED}"
        )
    return ExpertGroups(size(config, "n_group"), size(config, "topk_group")) if method == _LIMITED else None
