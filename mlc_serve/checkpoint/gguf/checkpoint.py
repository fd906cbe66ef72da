"""A model in GGUF files, as llama.cpp reads them: one file, or the parts of one that was split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from mlc_serve.checkpoint.fingerprint import fingerprint_of, portable_fingerprint_of
from mlc_serve.checkpoint.generation_values import Recommendations
from mlc_serve.checkpoint.gguf.family import FACTORS, config_of, family_of, names_of
from mlc_serve.checkpoint.gguf.file import GGUFFile
from mlc_serve.checkpoint.gguf.tensors import GGUFTensors
from mlc_serve.errors import CheckpointError
from mlc_serve.loaded_model import GenerationDefaults
from mlc_serve.models.weight_names import Form
from mlc_serve.text.templates.chat_template import ChatTemplate
from mlc_serve.text.tokenization.gguf_vocabulary import tokenizer_of
from mlc_serve.text.tokenization.tokenizer import Tokenizer

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_MOST_PARTS = 1000
# Tokens that end an answer, by the keys that hold their ids.
_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
# transformers' names of sampling values, by those that follow general.sampling.
_SAMPLING = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}


class GGUFCheckpoint:
    """See Checkpoint. Tensors have transformers' names, and the values that llama.cpp reads."""

    form: Form = "huggingface"
    quantization: str | None = None
    tokenizer_directory: Path | None = None

    def __init__(self, path: Path) -> None:
        self._files = [GGUFFile(part) for part in _parts_of(path)]
        self.config_file = self.directory = self._files[0].path
        self._metadata = self._files[0].metadata
        try:
            self._read()
        except CheckpointError as error:
            raise error if str(path.parent) in str(error) else CheckpointError(f"{path}: {error}") from error

    def _read(self) -> None:
        family = family_of(self._metadata)
        shapes = {name: info.shape for file in self._files for name, info in file.tensors.items()}
        if sum(len(file.tensors) for file in self._files) != len(shapes):
            raise CheckpointError("two tensors have the same name")
        self.config: dict[str, Any] = config_of(family, self._metadata, shapes, self._factors())
        self.model_type = family.model_type
        self.tensors = GGUFTensors(
            self._files,
            names_of(family, list(shapes)),
            lambda name: family.row_change(name, self.config),
            family.value_change,
        )

    def _factors(self) -> Any:
        """The values of the tensor that stretches positions; None if there is none."""
        for file in self._files:
            if FACTORS in file.tensors:
                return file.floats(FACTORS)
        return None

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """See Checkpoint."""
        try:
            return tokenizer_of(self._metadata)
        except CheckpointError as error:
            raise CheckpointError(f"{self.config_file}: {error}") from error

    def fingerprint(self) -> str:
        """See Checkpoint."""
        return fingerprint_of([], self.tensors.files)

    def portable_fingerprint(self) -> str:
        """See Checkpoint."""
        return portable_fingerprint_of([], self.tensors.files)

    def generation_defaults(self) -> GenerationDefaults:
        """The sampling values and the end tokens of the metadata."""
        recommended = Recommendations(self.config_file)
        declared = {own: self._metadata.get(f"general.sampling.{name}") for name, own in _SAMPLING.items()}
        ends = [self._metadata.get(f"tokenizer.ggml.{name}") for name in _ENDS]
        return GenerationDefaults(
            **recommended.sampling(declared),
            eos_token_ids=recommended.token_ids(ends, "eos_token_id", self.config.get("vocab_size")),
        )

    def chat_template(self) -> ChatTemplate | None:
        """The Jinja2 template of the metadata."""
        source = self._metadata.get("tokenizer.chat_template")
        if source is None:
            return None
        if not isinstance(source, str):
            raise CheckpointError(f"{self.config_file}: tokenizer.chat_template is not a text")
        names = {name: text for name, text in self.tokenizer.description.items() if isinstance(text, str)}
        try:
            return ChatTemplate(source, names, self.tokenizer.special_texts)
        except CheckpointError as error:
            raise CheckpointError(f"{self.config_file}: {error}") from error


def gguf_in(directory: Path) -> Path | None:
    """The GGUF file of a directory, or the first part of one; None if there is none. Raises CheckpointError
    if there are several.
    """
    found = [path for path in sorted(directory.iterdir()) if path.suffix.lower() == ".gguf"]
    models = [path for path in found if not _is_later_part(path) and not path.name.startswith("mmproj")]
    if len(models) > 1:
        names = ", ".join(path.name for path in models[:5])
        raise CheckpointError(f"{directory}: there are several GGUF files; name one of them: {names}")
    return models[0] if models else None


def _is_later_part(path: Path) -> bool:
    found = _PART.fullmatch(path.name)
    return found is not None and int(found["number"]) != 1


def _parts_of(path: Path) -> Sequence[Path]:
    """All parts of a file, in their order. Raises CheckpointError if one is missing."""
    found = _PART.fullmatch(path.name)
    if found is None:
        return [path]
    count = int(found["count"])
    if not 0 < count <= _MOST_PARTS:
        raise CheckpointError(f"{path}: a file of {count} parts is not supported")
    parts = [
        path.with_name(f"{found['stem']}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)
    ]
    for part in parts:
        if not part.is_file():
            raise CheckpointError(f"{path.parent}: there is no {part.name}")
    return parts
