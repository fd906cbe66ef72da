"""Which layers of a model can give their states."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.errors import ConfigError
from mlc_serve.models.decoder import Decoder
from mlc_serve.models.families.llama import read_llama
from mlc_serve.models.table import read_architecture
from mlc_serve.models.taps import with_taps
from tests.models.test_decoder import CONFIG
from tests.models.test_recurrent_families import LFM2, RWKV6


def test_a_tap_is_a_layer_or_what_the_last_one_leaves() -> None:
    """A model of two layers has the taps 0, 1 and 2, in any order; others are refused by number."""
    model = read_llama(CONFIG)
    tapped = with_taps(model, (2, 0))
    assert isinstance(tapped, Decoder)
    assert tapped.taps == (2, 0)
    assert tapped.workspace_width == model.workspace_width + 2 * model.hidden_size
    assert with_taps(model, ()) is model
    for wrong in (3, -1):
        with pytest.raises(ConfigError, match=rf"^taps must be numbers from 0 to 2, .*, not {wrong}$"):
            with_taps(model, (0, wrong))


@pytest.mark.parametrize(("model_type", "config"), [("rwkv6", RWKV6), ("lfm2", LFM2)])
def test_a_recurrent_model_has_no_taps(model_type: str, config: dict[str, Any]) -> None:
    """It is refused with the reason, and so is one of which only some layers are recurrent."""
    with pytest.raises(ConfigError, match=r"^taps .*: its layers keep a recurrent state$"):
        with_taps(read_architecture(model_type, config), (0,))
