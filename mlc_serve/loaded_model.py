"""A model in memory with everything that its engine needs, however it was loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mlc_serve.engine.backend import Backend
from mlc_serve.engine.embedder import Embedder, EmbeddingLimits
from mlc_serve.engine.limits import EngineLimits, ModelInfo
from mlc_serve.engine.speculation.speculation import Speculation
from mlc_serve.text.answer_form import AnswerForm
from mlc_serve.text.conversation import PromptTemplate
from mlc_serve.text.tokenization.tokenizer import Tokenizer


@dataclass(frozen=True)
class GenerationDefaults:
    """The defaults for what a request doesn't set, from generation_config.json or mlc-chat-config.json.

    `eos_token_ids` end every request that does not set ignore_eos; `stop` has the stop strings of the chat
    template.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    eos_token_ids: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class PrefixFiles:
    """Where prefixes are stored: in files of at most `max_bytes` in all. `key` stands for everything that
    keys and values follow from, besides the tokens: the weights, and the code that computes.
    """

    directory: Path
    max_bytes: int
    key: str


@dataclass(frozen=True)
class LoadedModel:
    """`name` is the model's name for clients. Without a `chat_template` only raw completions can be served.
    `weights` is the same wherever a model with the same weights is loaded.
    `device` names the device that it runs on, `quantization` the scheme of its weights. `answers` says how it
    writes calls and reasoning, and `speculation` what drafts for it. Without `prefix_files`, prefixes that
    the prefix cache evicts are lost.
    """

    name: str
    device: str
    quantization: str
    weights: str
    backend: Backend
    info: ModelInfo
    limits: EngineLimits
    tokenizer: Tokenizer
    chat_template: PromptTemplate | None
    defaults: GenerationDefaults
    answers: AnswerForm = field(default_factory=AnswerForm)
    speculation: Speculation = field(default_factory=Speculation.none)
    prefix_files: PrefixFiles | None = None


@dataclass(frozen=True)
class LoadedEmbeddingModel:
    """A model that makes embeddings. Its tokens have ids below `vocab_size`. `end_id` is put after each text
    in addition to what the tokenizer adds, if the model needs it.
    """

    name: str
    device: str
    quantization: str
    embedder: Embedder
    limits: EmbeddingLimits
    tokenizer: Tokenizer
    vocab_size: int
    end_id: int | None = None
