"""Reads whether and how a checkpoint makes embeddings of hidden states. MLC says it in embedding_metadata of
mlc-chat-config.json, and sentence-transformers in several files:

modules.json                a list of modules: the transformer, its pooling, and perhaps a normalization
sentence_bert_config.json   the longest input, `max_seq_length`
1_Pooling/config.json       how hidden states are pooled; modules.json names the directory
"""

from __future__ import annotations

import json
import reprlib
from pathlib import Path
from typing import Any

from mlc_serve.checkpoint.mlc import CONFIG_NAME as MLC_CONFIG
from mlc_serve.checkpoint.named_file import named_file
from mlc_serve.engine.pooling import Pooling, PoolingMode
from mlc_serve.errors import CheckpointError
from mlc_serve.models.config_values import size
from mlc_serve.text.json_object import read_json_object, read_json_object_if_present

_MODULES = "modules.json"
_MODES = {"mean": PoolingMode.MEAN, "cls": PoolingMode.CLS, "lasttoken": PoolingMode.LAST}
_MODE_KEYS = {
    "pooling_mode_mean_tokens": PoolingMode.MEAN,
    "pooling_mode_cls_token": PoolingMode.CLS,
    "pooling_mode_lasttoken": PoolingMode.LAST,
}


def is_made_for_embeddings(directory: Path) -> bool:
    """Whether a directory says that its model makes embeddings."""
    chat_config = read_json_object_if_present(directory / MLC_CONFIG)
    return (directory / _MODULES).is_file() or chat_config.get("model_task") == "embedding"


def read_pooling(directory: Path, default: PoolingMode) -> Pooling:
    """How embeddings are made. If no file says so, they are pooled by `default`, and normalized.

    Raises CheckpointError, which names the file, for modules and poolings that are not supported.
    """
    path = directory / _MODULES
    if not path.is_file():
        of_mlc = read_json_object_if_present(directory / MLC_CONFIG).get("embedding_metadata")
        if of_mlc:
            return _pooling_of_mlc(directory / MLC_CONFIG, of_mlc)
        return Pooling(default, max_tokens=_max_tokens(directory))
    paths = _modules(path)
    mode = default
    if "Pooling" in paths:
        mode = _mode(named_file(path, "path", f"{paths['Pooling']}/config.json"))
    return Pooling(mode, "Normalize" in paths, _max_tokens(directory))


def _pooling_of_mlc(path: Path, stated: Any) -> Pooling:
    name = stated.get("pooling_strategy") if isinstance(stated, dict) else None
    normalizes = stated.get("normalize", True) if isinstance(stated, dict) else None
    if name not in [mode.value for mode in PoolingMode] or not isinstance(normalizes, bool):
        raise CheckpointError(f"{path}: embedding_metadata {reprlib.repr(stated)} is not supported")
    return Pooling(PoolingMode(name), normalizes)


def _modules(path: Path) -> dict[str, str]:
    """The directory of each module, by the last part of its type."""
    try:
        listed = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: can't be read: {error}") from error
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise CheckpointError(f"{path}: expected a list of objects")
    paths = {str(entry.get("type")).rpartition(".")[2]: str(entry.get("path", "")) for entry in listed}
    unknown = paths.keys() - {"Transformer", "Pooling", "Normalize"}
    if unknown:
        raise CheckpointError(f"{path}: a module of the type {min(unknown)} is not supported")
    return paths


def _mode(path: Path) -> PoolingMode:
    config = read_json_object(path)
    named = config.get("pooling_mode")
    modes = [_MODES.get(named)] if isinstance(named, str) else _switched_on(config)
    if len(modes) != 1 or modes[0] is None:
        chosen = named or [key for key in config if key.startswith("pooling_mode_") and config[key]]
        raise CheckpointError(f"{path}: the pooling {reprlib.repr(chosen)} is not supported")
    return modes[0]


def _switched_on(config: dict[str, Any]) -> list[PoolingMode | None]:
    """Each mode whose switch is on; None for one that is not known."""
    keys = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
    return [_MODE_KEYS.get(key) for key in keys]


def _max_tokens(directory: Path) -> int | None:
    path = directory / "sentence_bert_config.json"
    config = read_json_object_if_present(path)
    if config.get("max_seq_length") is None:
        return None
    try:
        return size(config, "max_seq_length")
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
