"""A model directory as MLC writes it: mlc-chat-config.json, shards of converted weights, tokenizer files."""

from __future__ import annotations

import re
import reprlib
from functools import cached_property
from pathlib import Path
from typing import Any

from mlc_serve.checkpoint.fingerprint import fingerprint_of, portable_fingerprint_of
from mlc_serve.checkpoint.generation_values import Recommendations
from mlc_serve.checkpoint.mlc_conversation import read_conversation
from mlc_serve.checkpoint.raw_shards import RawShards
from mlc_serve.checkpoint.template_files import read_chat_template
from mlc_serve.errors import CheckpointError
from mlc_serve.loaded_model import GenerationDefaults
from mlc_serve.models.mlc_config import config_of_mlc, model_type_of_mlc
from mlc_serve.models.weight_names import Form
from mlc_serve.text.conversation import PromptTemplate
from mlc_serve.text.json_object import read_json_object
from mlc_serve.text.templates.conversation_template import ConversationTemplate
from mlc_serve.text.tokenization.tokenizer import Tokenizer

CONFIG_NAME = "mlc-chat-config.json"
_WORDS: dict[type, str] = {str: "a text", dict: "an object"}
# What is beside model_config takes precedence, as in MLC, where people edit it. There -1 stands for "none".
_ADJUSTABLE = ("vocab_size", "context_window_size", "sliding_window_size", "attention_sink_size")
_PART_OF_TENSOR = re.compile(r"_shard-\d+(-of-\d+)?$")


class MLCCheckpoint:
    """See Checkpoint. Tensors are quantized in the scheme `quantization`, and are fused and named as in MLC.

    `chat_config` is all of mlc-chat-config.json, and `config` is its model_config, with the model_type and
    the sizes that are beside it.
    """

    form: Form = "mlc"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tokenizer_directory = directory
        self.config_file = directory / CONFIG_NAME
        self.chat_config = read_json_object(self.config_file)
        self.model_type = model_type_of_mlc(self._field("model_type", str))
        self.quantization: str | None = self._field("quantization", str)
        self.config: dict[str, Any] = self._config()
        self.tensors = RawShards(directory)
        self._check_tensors_are_whole()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """See Checkpoint."""
        return Tokenizer.from_directory(self.tokenizer_directory)

    def fingerprint(self) -> str:
        """See Checkpoint."""
        return fingerprint_of([self.config_file, self.tensors.index], self.tensors.files)

    def portable_fingerprint(self) -> str:
        """See Checkpoint."""
        return portable_fingerprint_of([self.config_file, self.tensors.index], self.tensors.files)

    def generation_defaults(self) -> GenerationDefaults:
        """The sampling values and the end tokens of the chat config, and the conversation template's stop
        tokens and strings.
        """
        conversation = self._conversation
        recommended = Recommendations(self.config_file)
        vocab_size = self.config.get("vocab_size")
        ends = recommended.token_ids(self.chat_config.get("eos_token_id"), "eos_token_id", vocab_size)
        stops = recommended.token_ids(
            conversation.get("stop_token_ids"), "conv_template.stop_token_ids", vocab_size
        )
        return GenerationDefaults(
            **recommended.sampling(self.chat_config),
            eos_token_ids=ends | stops,
            stop=self._stop_strings(conversation),
        )

    def chat_template(self) -> PromptTemplate | None:
        """The conversation template; without one, the Jinja2 template of the tokenizer's files."""
        conversation = self._conversation
        if not conversation:
            return read_chat_template(self.directory, self.tokenizer.special_texts)
        try:
            prefix = self._prefix(conversation.get("system_prefix_token_ids"))
            return ConversationTemplate.from_config(
                conversation, prefix=prefix, control_texts=self.tokenizer.special_texts
            )
        except CheckpointError as error:
            raise CheckpointError(f"{self.config_file}: {error}") from error

    @cached_property
    def _conversation(self) -> dict[str, Any]:
        """The fields of the conversation template; empty if the model has none."""
        try:
            return read_conversation(self.chat_config)
        except CheckpointError as error:
            raise CheckpointError(f"{self.config_file}: {error}") from error

    def _config(self) -> dict[str, Any]:
        beside = {key: self.chat_config[key] for key in _ADJUSTABLE if self.chat_config.get(key) is not None}
        config: dict[str, Any] = {**self._field("model_config", dict), **beside}
        if config.get("vocab_size") == -1:
            del config["vocab_size"]
        return config_of_mlc(config) | {"model_type": self.model_type}

    def _check_tensors_are_whole(self) -> None:
        parts = [name for name in self.tensors.names if _PART_OF_TENSOR.search(name)]
        if parts:
            raise CheckpointError(
                f"{self.tensors.index}: {parts[0]} is a part of a tensor that was cut for several GPUs, "
                "which is not supported; convert the weights with tensor_parallel_shards=1"
            )

    def _prefix(self, prefix_ids: Any) -> str:
        """The text of the tokens that come before every prompt."""
        if not prefix_ids:
            return ""
        if isinstance(prefix_ids, list) and all(isinstance(token_id, int) for token_id in prefix_ids):
            text = "".join(map(self.tokenizer.token_text, prefix_ids))
            if self.tokenizer.encode(text, add_special_tokens=False) == prefix_ids:
                return text
        shown = reprlib.repr(prefix_ids)
        raise CheckpointError(f"conv_template.system_prefix_token_ids: {shown} are not all special tokens")

    def _stop_strings(self, conversation: dict[str, Any]) -> tuple[str, ...]:
        """The stop strings. MLC's template stablelm has an empty one, which would end every answer."""
        declared = conversation.get("stop_str") or []
        stops = [declared] if isinstance(declared, str) else declared
        if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
            place = f"{self.config_file}: conv_template.stop_str"
            raise CheckpointError(f"{place} is neither a text nor a list of texts")
        return tuple(stop for stop in stops if stop)

    def _field(self, name: str, kind: type) -> Any:
        value = self.chat_config.get(name)
        if not isinstance(value, kind):
            shown = reprlib.repr(value)
            raise CheckpointError(f"{self.config_file}: {name} is {shown}, but must be {_WORDS[kind]}")
        return value
