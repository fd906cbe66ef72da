"""BERT (Devlin et al., 2019), which most small embedding models are, such as MiniLM, BGE, E5 and GTE."""

from __future__ import annotations

from mlc_serve.models.encoder import Encoder, EncoderFamily

BERT = EncoderFamily(Encoder.from_config, prefix="bert.", head="cls")
