"""What the default scheme changes in the models of each family."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.family_checkpoints import write_family
from tests.runtime.family_variants import ALL
from tests.runtime.pair import Pair

LARGEST_DIVERGENCE = 0.05  # nats, of the default scheme from float32, where routers choose other experts


@pytest.mark.parametrize("name", [name for name, variant in ALL.items() if name == variant.model_type])
def test_the_default_scheme_changes_little(name: str, tmp_path: Path) -> None:
    """Bytes in the place of floats, in weights and activations, change distributions by a bounded amount."""
    theirs = write_family(tmp_path, *ALL[name])
    pair = Pair(tmp_path, "q8f32_1", theirs=theirs)
    ids = pair.prompts()[-1]
    exact, ours = pair.their_logprobs(ids), pair.our_logprobs(ids)
    divergence = (np.exp(exact) * (exact - ours)).sum(axis=-1)
    assert divergence.mean() < LARGEST_DIVERGENCE
