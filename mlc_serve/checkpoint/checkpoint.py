"""Checkpoint: what the loader needs from a model directory, whatever its form."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from mlc_serve.checkpoint.stored_tensors import StoredTensors
from mlc_serve.loaded_model import GenerationDefaults
from mlc_serve.models.weight_names import Form
from mlc_serve.text.conversation import PromptTemplate
from mlc_serve.text.tokenization.tokenizer import Tokenizer


class Checkpoint(Protocol):
    """An opened model directory. All members raise CheckpointError for a file that is missing, cut off or
    malformed.
    """

    @property
    def directory(self) -> Path:
        """The model directory, or its GGUF file."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The sizes and settings of the architecture, under the names of the directory's form."""

    @property
    def config_file(self) -> Path:
        """The file that contains `config`."""

    @property
    def model_type(self) -> str:
        """The name of the architecture, such as "llama" or "qwen2"."""

    @property
    def form(self) -> Form:
        """Whose names the tensors have."""

    @property
    def quantization(self) -> str | None:
        """The scheme in which the tensors are already quantized; None if they are the model's own."""

    @property
    def tensors(self) -> StoredTensors:
        """The tensors, under the names that the directory's files give them."""

    @property
    def tokenizer_directory(self) -> Path | None:
        """The directory of the tokenizer's files; None if it is described in a GGUF file."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, which is read on first use."""

    def fingerprint(self) -> str:
        """A hash, in 64 hexadecimal digits, of everything that a conversion of the tensors depends on."""

    def portable_fingerprint(self) -> str:
        """A hash of the same length that copies of the checkpoint on other machines have as well, and other
        weights do not.
        """

    def generation_defaults(self) -> GenerationDefaults:
        """The values for what a request does not set."""

    def chat_template(self) -> PromptTemplate | None:
        """What turns a conversation into a prompt; None for a model that is not made for conversations."""
