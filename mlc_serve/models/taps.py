"""Models that give the hidden states of some of their layers beside logits, for models that draft with them.

Tap n is the residual stream that enters layer n, counted from 0. The tap whose number is that of the layers
is what the last layer leaves, before the last norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mlc_serve.errors import ConfigError
from mlc_serve.models.architecture import Architecture
from mlc_serve.models.decoder import Decoder


def with_taps(architecture: Architecture, taps: Sequence[int]) -> Architecture:
    """The same model with these taps, in this order. Raises ConfigError if it has no such layers."""
    if not taps:
        return architecture
    if not isinstance(architecture, Decoder) or architecture.recurrence is not None:
        raise ConfigError("taps are not supported for this model: its layers keep a recurrent state")
    num_layers = len(architecture.blocks)
    wrong = [tap for tap in taps if not 0 <= tap <= num_layers]
    if wrong:
        raise ConfigError(f"taps must be numbers from 0 to {num_layers}, that of the layers, not {wrong[0]}")
    return replace(architecture, taps=tuple(taps))
