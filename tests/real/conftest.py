"""What the tests of real models share: servers of SmolLM2, and a cache that outlives the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import real_models

from mlc_serve.loading.artifacts import cache_home
from tests.real.serving import serving


@pytest.fixture(scope="session", autouse=True)
def cache_directory() -> Path:
    """The user's cache instead of an empty one, so that a model is compiled only if the compiler changed."""
    return cache_home()


@pytest.fixture(scope="session")
def exact() -> Iterator[openai.OpenAI]:
    """SmolLM2 in float32, as OpenAI's SDK reaches it."""
    with serving(real_models.SMOLLM2, "q0f32") as client:
        yield client


@pytest.fixture(scope="session")
def from_file() -> Iterator[openai.OpenAI]:
    """SmolLM2 in float32, from its GGUF file."""
    with serving(real_models.SMOLLM2_FILE, "q0f32") as client:
        yield client


@pytest.fixture(scope="session")
def usual() -> Iterator[openai.OpenAI]:
    """SmolLM2 in the scheme that a user gets."""
    with serving(real_models.SMOLLM2, None) as client:
        yield client
