"""Families of which some layers are recurrent against transformers."""

from __future__ import annotations

from tests.runtime.family_claims import (  # noqa: F401  these tests are run here
    pair_of,
    test_greedy_output_of_a_batch_is_greedy_for_transformers,
    test_logprobs_are_transformers_at_every_position,
)
from tests.runtime.family_variants import HYBRIDS

pair = pair_of(HYBRIDS)
