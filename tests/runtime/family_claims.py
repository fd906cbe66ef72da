"""What holds for the models of every family. Modules import these tests, each for some of the variants, so
that several processes share them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.family_checkpoints import write_family
from tests.runtime.family_variants import Variant
from tests.runtime.pair import Pair, assert_greedy, assert_scores


def pair_of(variants: Mapping[str, Variant]) -> Any:
    """The fixture `pair`: a checkpoint of one of the variants, loaded by us and by transformers."""

    @pytest.fixture(scope="module", params=variants)
    def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
        directory = tmp_path_factory.mktemp("checkpoint")
        return Pair(directory, theirs=write_family(directory, *variants[request.param]))

    return pair


@pytest.mark.parametrize("prefill", [120, 37, 1])
def test_logprobs_are_transformers_at_every_position(pair: Pair, prefill: int) -> None:
    """Up to rounding, logprobs and ranks are theirs, whether computed by prefill, in chunks, or by decode."""
    prompts = pair.prompts()
    assert_scores(pair, prompts[-1] + prompts[-2][:23], prefill)


def test_greedy_output_of_a_batch_is_greedy_for_transformers(pair: Pair) -> None:
    """The 64 tokens of each prompt in a batch are transformers' choices, whatever the chunks."""
    assert_greedy(pair, pair.prompts(), pair.our_greedy(pair.prompts(), 24, "hybrid"))
