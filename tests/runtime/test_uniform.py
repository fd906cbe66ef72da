"""The random numbers behind draws."""

from __future__ import annotations

import numpy as np
import pytest

from mlc_serve.runtime.uniform import uniforms

MANY = 20_000


@pytest.mark.parametrize(
    "numbers",
    [
        uniforms(range(MANY), [0] * MANY),
        uniforms([2**64 - 1 - i for i in range(MANY)], [3] * MANY),
        uniforms([i << 32 for i in range(MANY)], [1] * MANY),
        uniforms([0] * MANY, range(MANY)),
        uniforms([2**64 - 1] * MANY, range(MANY)),
        uniforms(range(MANY), range(MANY)),
        uniforms(range(MANY), range(MANY - 1, -1, -1)),
    ],
    ids=["seeds", "largest seeds", "high bits", "indices", "of the largest seed", "both", "against"],
)
def test_numbers_are_uniform_and_independent(numbers: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    """Over seeds, positions or both, single numbers and pairs of neighbours are uniform (chi-square)."""
    assert 0 < numbers.min() < numbers.max() < 1
    for values, bins in ((numbers, 100), (np.floor(numbers[::2] * 10) / 10 + numbers[1::2] / 10, 100)):
        counts = np.histogram(values, bins, (0, 1))[0]
        expected = len(values) / bins
        assert ((counts - expected) ** 2 / expected).sum() < bins + 5 * np.sqrt(2 * bins)
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 5 / np.sqrt(MANY)


def test_a_number_follows_from_its_seed_and_index() -> None:
    """A number depends on its seed and index only, and these four pairs have different ones."""
    seeds, indices = [0, 1, 1, 2**64 - 1], [0, 0, 7, 10**6]
    together = uniforms(seeds, indices)
    alone = [float(uniforms([seed], [index])[0]) for seed, index in zip(seeds, indices, strict=True)]
    assert together.tolist() == alone
    assert len(set(alone)) == len(alone)


def test_the_generator_is_splitmix64() -> None:
    """As published, each number is the mixed sum of its seed's start and a multiple of the constant."""

    def mixed(word: int) -> int:
        word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
        return word ^ word >> 31

    assert mixed(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF  # the published generator's first word from seed 0
    start = mixed((1234 + 0x9E3779B97F4A7C15) % 2**64)
    expected = ((mixed((start + 5 * 0x9E3779B97F4A7C15) % 2**64) >> 12) + 0.5) / 2**52
    assert uniforms([1234], [5])[0] == expected
