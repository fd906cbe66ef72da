"""What latent attention needs of a library."""

from __future__ import annotations

import pytest

from mlc_serve.compiler.library import export_model
from mlc_serve.compiler.target import target_for
from mlc_serve.errors import CheckpointError
from tests.models.test_latent_config import CONFIG


def test_gpus_are_refused() -> None:
    """By the name of what they can't do."""
    with pytest.raises(CheckpointError, match="latent attention is available only on the CPU"):
        export_model("deepseek_v2", CONFIG, "q0f16", target_for("cuda", "sm_90a"))


def test_the_library_tells_what_its_cache_keeps() -> None:
    """One part of a page, which has as many values as a latent and what turns."""
    cache = export_model("deepseek_v2", CONFIG, "q0f32", target_for("cpu"))[1]["kv_cache"]
    assert (cache["page_parts"], cache["num_key_value_heads"], cache["head_dim"]) == (1, 1, 7)
