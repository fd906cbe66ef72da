"""What requests change in the logits of a batch, and that it is undone."""

from __future__ import annotations

import numpy as np
import pytest

from mlc_serve.engine.sampling import Draw, SamplingParams
from mlc_serve.runtime.adjustments import adjusted
from mlc_serve.runtime.rows import RowOperations

DRAWS = [
    Draw(SamplingParams(), (1, 2), (3,), 0),
    Draw(
        SamplingParams(logit_bias={1: 2.0, 4: -3.0}, min_tokens=2, stop_token_ids=frozenset({6})), (), (3,), 0
    ),
    Draw(SamplingParams(presence_penalty=1.0, logit_bias={3: 0.5}), (2,), (3, 3), 0),
    Draw(SamplingParams(repetition_penalty=2.0), (2, 5, 2), (), 0),
    Draw(SamplingParams(min_tokens=2), (2,), (3,), 0),
]
CHANGED = [{}, {1: 3.0, 4: -2.0, 6: -np.inf}, {3: 0.5}, {2: 0.5, 5: 0.5}, {}]


def test_each_row_is_as_its_draw_wants_it(rows: RowOperations) -> None:
    """Bias comes before penalties, and stop tokens can't come too early; afterwards all is restored."""
    logits = np.ones((5, 8), np.float32)
    expected = logits.copy()
    for row, changed in enumerate(CHANGED):
        for token, value in changed.items():
            expected[row, token] = value
    with adjusted(logits, DRAWS, rows):
        np.testing.assert_array_equal(logits, expected)
    np.testing.assert_array_equal(logits, np.ones((5, 8), np.float32))


def test_a_draw_that_fails_leaves_logits_as_they_were(rows: RowOperations) -> None:
    """After an exception the logits are restored, even those that were changed for two reasons."""
    logits = np.ones((5, 8), np.float32)
    with pytest.raises(KeyError), adjusted(logits, DRAWS, rows):
        raise KeyError
    np.testing.assert_array_equal(logits, np.ones((5, 8), np.float32))
