"""What the loader asks of a model directory, whichever of the two forms it has."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from mlc_serve.loaded_model import GenerationDefaults
from mlc_serve.text.conversation import PromptTemplate
from mlc_serve.text.tokenization.tokenizer import Tokenizer


class Checkpoint(Protocol):
    """An opened model directory. Everything raises CheckpointError for a file that is missing, cut off or
    malformed.
    """

    @property
    def directory(self) -> Path:
        """Where it lies."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The sizes and settings of the architecture, under the names of the directory's form."""

    @property
    def config_file(self) -> Path:
        """The file that `config` is in."""

    @property
    def model_type(self) -> str:
        """Name of the architecture, as "llama" or "qwen2"."""

    @property
    def quantization(self) -> str | None:
        """Name of the scheme that the tensors are already packed by; None if they are the model's own."""

    @property
    def tensor_names(self) -> Collection[str]:
        """Names of all tensors."""

    @property
    def tokenizer_directory(self) -> Path:
        """Where the tokenizer's files lie."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, read when it is first asked for. CheckpointError if it can't be."""

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one tensor, which is not read for it."""

    def tensor(self, name: str) -> NDArray[Any]:
        """One tensor, in the dtype it is stored in (bfloat16 is ml_dtypes'); possibly read-only. Nothing else
        is kept in memory.
        """

    def fingerprint(self) -> str:
        """Changes with everything that a conversion of the tensors depends on: 64 hexadecimal digits."""

    def generation_defaults(self) -> GenerationDefaults:
        """What holds where a request is silent."""

    def chat_template(self) -> PromptTemplate | None:
        """How conversations are written; None for a model that has no form for them."""
