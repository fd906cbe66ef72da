"""RoBERTa (Liu et al., 2019) and XLM-RoBERTa: a BERT that begins to count positions after the padding id."""

from __future__ import annotations

from mlc_serve.models.config_values import Config, index
from mlc_serve.models.encoder import Encoder, EncoderFamily


def _read(config: Config) -> Encoder:
    return Encoder.from_config(config, first_position=index(config, "pad_token_id", 1) + 1)


ROBERTA = EncoderFamily(_read, prefix="roberta.", head="lm_head")
