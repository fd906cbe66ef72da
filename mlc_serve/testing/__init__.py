"""Fakes for tests: a KV cache and a backend without a device, a proposer, a byte tokenizer, a whole
LoadedModel, and a Served without a model.
"""

from __future__ import annotations

from mlc_serve.testing.backend import Choice, FakeBackend, likely_letter, logprobs_of, replay
from mlc_serve.testing.constraint import FakeConstraint
from mlc_serve.testing.embedder import FakeEmbedder, fake_embedding_model
from mlc_serve.testing.first_come import FirstComeFirstServed
from mlc_serve.testing.kv_cache import FakeKVCache
from mlc_serve.testing.model import CHAT_TEMPLATE, fake_model
from mlc_serve.testing.prefix_store import FakePrefixStore
from mlc_serve.testing.proposer import FakeProposer
from mlc_serve.testing.served import FakeServed
from mlc_serve.testing.short_memory import FakeRecurrentState, FakeWindowedState
from mlc_serve.testing.tokens import (
    BOS_ID,
    EOS_ID,
    IM_END_ID,
    IM_START_ID,
    SPECIAL_TOKENS,
    VOCAB_SIZE,
    byte_tokenizer,
)

__all__ = [
    "BOS_ID",
    "CHAT_TEMPLATE",
    "EOS_ID",
    "IM_END_ID",
    "IM_START_ID",
    "SPECIAL_TOKENS",
    "VOCAB_SIZE",
    "Choice",
    "FakeBackend",
    "FakeConstraint",
    "FakeEmbedder",
    "FakeKVCache",
    "FakePrefixStore",
    "FakeProposer",
    "FakeRecurrentState",
    "FakeServed",
    "FakeWindowedState",
    "FirstComeFirstServed",
    "byte_tokenizer",
    "fake_embedding_model",
    "fake_model",
    "likely_letter",
    "logprobs_of",
    "replay",
]
