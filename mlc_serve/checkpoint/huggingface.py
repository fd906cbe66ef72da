"""A model directory as Hugging Face's transformers writes it: config.json, safetensors, tokenizer files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from mlc_serve.checkpoint.fingerprint import fingerprint_of, portable_fingerprint_of
from mlc_serve.checkpoint.generation_values import Recommendations
from mlc_serve.checkpoint.packed.table import KEY, read_packings
from mlc_serve.checkpoint.packed.unpacked_tensors import UnpackedTensors
from mlc_serve.checkpoint.safetensors_weights import SafetensorsWeights
from mlc_serve.checkpoint.stored_tensors import StoredTensors
from mlc_serve.checkpoint.template_files import read_chat_template, read_listed_ids, read_special_tokens
from mlc_serve.checkpoint.torch_weights import TORCH_NAMES, TorchWeights
from mlc_serve.errors import CheckpointError
from mlc_serve.loaded_model import GenerationDefaults
from mlc_serve.models.eagle_config import SPECULATORS_KEY
from mlc_serve.models.medusa import HEADS_KEY, counted
from mlc_serve.models.weight_names import Form
from mlc_serve.text.json_object import read_json_object, read_json_object_if_present
from mlc_serve.text.templates.chat_template import ChatTemplate
from mlc_serve.text.tokenization.tokenizer import Tokenizer

CONFIG_NAME = "config.json"
_HEAD = "lm_head.weight"


class HuggingFaceCheckpoint:
    """See Checkpoint. Tensors are the model's own, and have the names that transformers uses. Those that
    another program has packed (GPTQ, AWQ and others) are unpacked when they are read.
    """

    form: Form = "huggingface"
    quantization: str | None = None

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tokenizer_directory = directory
        self.config_file = directory / CONFIG_NAME
        self.config = read_json_object(self.config_file)
        self.model_type = self._model_type()
        # The model is the same, however its weights are packed.
        packings = read_packings(self.config_file, self.config.pop(KEY, None))
        self._files = _open_files(directory)
        self.tensors: StoredTensors = (
            UnpackedTensors(self._files, packings, directory) if packings else self._files
        )
        # Like transformers, use a head that is there, whatever the configuration says.
        if _HEAD in self.tensors.names:
            self.config["tie_word_embeddings"] = False
        if self.model_type == "medusa":
            self.config = self._with_counted_heads()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """See Checkpoint."""
        return Tokenizer.from_directory(self.tokenizer_directory)

    def fingerprint(self) -> str:
        """See Checkpoint."""
        return fingerprint_of(self._documents, self._files.files)

    def portable_fingerprint(self) -> str:
        """See Checkpoint."""
        return portable_fingerprint_of(self._documents, self._files.files)

    @property
    def _documents(self) -> list[Path]:
        return [self.config_file, *([self._files.index] if self._files.index else [])]

    def generation_defaults(self) -> GenerationDefaults:
        """The values of generation_config.json. The end tokens are its own, or else those of config.json, and
        the tokenizer's.
        """
        path = self.directory / "generation_config.json"
        declared = read_json_object_if_present(path)
        ends = self._end_ids(path, declared) or self._end_ids(self.config_file, self.config)
        return GenerationDefaults(
            **Recommendations(path).sampling(declared), eos_token_ids=ends | self._tokenizer_end()
        )

    def chat_template(self) -> ChatTemplate | None:
        """The directory's Jinja2 template."""
        return read_chat_template(self.directory, self.tokenizer.special_texts)

    def _model_type(self) -> str:
        model_type = self.config.get("model_type")
        if not model_type and HEADS_KEY in self.config:
            return "medusa"
        if not model_type and isinstance(self.config.get(SPECULATORS_KEY), str):
            return "speculator_model"
        if not isinstance(model_type, str):
            raise CheckpointError(f"{self.config_file}: there is no model_type")
        return model_type

    def _with_counted_heads(self) -> dict[str, Any]:
        try:
            return counted(self.config, {name: self.tensors.shape(name) for name in self.tensors.names})
        except CheckpointError as error:
            raise CheckpointError(f"{self.directory}: {error}") from error

    def _end_ids(self, file: Path, declared: Mapping[str, Any]) -> frozenset[int]:
        vocab_size = self.config.get("vocab_size")
        return Recommendations(file).token_ids(declared.get("eos_token_id"), "eos_token_id", vocab_size)

    def _tokenizer_end(self) -> frozenset[int]:
        """The ids that the tokenizer's files give to the token that they call eos_token.

        Without a tokenizer.json, the token is looked up in the vocabulary, unless that can't be read.
        """
        text = read_special_tokens(self.directory).get("eos_token")
        if text is None:
            return frozenset()
        path, ids = self.tokenizer_directory / "tokenizer.json", read_listed_ids(self.directory, text)
        if not path.exists():
            ids += self._vocabulary_ids(text)
        return Recommendations(path).token_ids(ids, "added_tokens", self.config.get("vocab_size"))

    def _vocabulary_ids(self, text: str) -> list[Any]:
        try:
            return [self.tokenizer.token_id(text)]
        except CheckpointError:
            return []


def _open_files(directory: Path) -> SafetensorsWeights | TorchWeights:
    """The files of a directory that hold tensors: a file of PyTorch's only if there are no safetensors."""
    old = [directory / name for name in TORCH_NAMES if (directory / name).is_file()]
    if old and not any(directory.glob("*.safetensors")):
        return TorchWeights(old[0])
    return SafetensorsWeights(directory)
