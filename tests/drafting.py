"""A fake model whose engine drafts, for tests of what is told about drafts."""

from __future__ import annotations

from dataclasses import replace

from mlc_serve.engine.speculation.draft_lengths import FixedLengths
from mlc_serve.engine.speculation.ngram import NGram
from mlc_serve.engine.speculation.speculation import Speculation
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.testing import FakeBackend, fake_model, replay


def drafting_model(name: str = "drafting") -> LoadedModel:
    """A model that repeats two letters, so that most n-gram drafts of three tokens are right."""
    backend = FakeBackend(num_pages=256, choose=replay(b"ab" * 100))
    return replace(fake_model(name, backend=backend), speculation=Speculation(NGram(), FixedLengths(3)))
