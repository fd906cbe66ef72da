"""DeepSeek-V3 and R1 (DeepSeek, 2024), and others of their form such as Moonlight: a DeepSeek-V2 whose
experts are chosen by sigmoids with a learned correction. Layers that predict further tokens are not used.
"""

from __future__ import annotations

import reprlib

from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import Config, flag, size
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.latent_config import read_latent_decoder
from mlc_serve.models.parts.experts import ExpertGroups, Routing

_ONLY = {"scoring_func": "sigmoid", "topk_method": "noaux_tc"}


def read_deepseek_v3(config: Config) -> Decoder:
    """See FAMILIES."""
    for key, only in _ONLY.items():
        if config.get(key, only) != only:
            raise CheckpointError(f"{key} {reprlib.repr(config[key])} is not supported, only {only}")
    routing = Routing(
        scores="sigmoid",
        renormalized=flag(config, "norm_topk_prob", default=True),
        factor=2.5,
        correction=True,
        groups=ExpertGroups(size(config, "n_group", 8), size(config, "topk_group", 4), summed=2),
    )
    return read_latent_decoder(config, routing, num_active=8, num_shared=1, num_dense=3)
