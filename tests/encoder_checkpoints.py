"""Writes small BERT and RoBERTa checkpoints with random weights, which this package and transformers load."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tokenizers
from safetensors.numpy import save_file
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from mlc_serve.models.table import read_encoder

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "world", "embed", "##ding", "##s", "a", "b", "##c", "!")
VOCAB_SIZE = 120
CLASSES = {"bert": "BertModel", "roberta": "RobertaModel", "xlm-roberta": "XLMRobertaModel"}

Pooling = Literal["mean_tokens", "cls_token", "lasttoken", "max_tokens"]


def write_encoder(
    path: Path,
    model_type: str = "bert",
    *,
    pooling: Pooling | None = None,
    normalizes: bool = True,
    max_seq_length: int | None = None,
    prefix: str = "",
    **keys: Any,
) -> Path:
    """Fill a directory with config, tokenizer and weights, and return it. With `pooling` it also has the
    files of sentence-transformers. `prefix` is put before the tensors' names; `keys` go into config.json.
    """
    path.mkdir(parents=True, exist_ok=True)
    config = _config(model_type) | keys
    _write(path / "config.json", config)
    _write(
        path / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
    )
    _tokenizer().save(str(path / "tokenizer.json"))
    described = {key: value for key, value in config.items() if key != "architectures"}
    weights = read_encoder(model_type, described).weights()
    tensors = {prefix + name: _values(name, shape) for name, shape in weights}
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    if pooling is not None:
        _write_pooling(path, pooling, normalizes)
    if max_seq_length is not None:
        _write(path / "sentence_bert_config.json", {"max_seq_length": max_seq_length})
    return path


def _config(model_type: str) -> dict[str, Any]:
    return {
        "architectures": [CLASSES[model_type]],
        "model_type": model_type,
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 80,
        "max_position_embeddings": 100,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "pad_token_id": 0 if model_type == "bert" else 1,
    }


def _write_pooling(path: Path, pooling: Pooling, normalizes: bool) -> None:
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalizes else [])]
    modules = [
        {"idx": i, "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    _write(path / "modules.json", modules)
    (path / "1_Pooling").mkdir(exist_ok=True)
    switches = {
        f"pooling_mode_{mode}": mode == pooling for mode in ("mean_tokens", "cls_token", "max_tokens")
    }
    _write(path / "1_Pooling/config.json", switches | {f"pooling_mode_{pooling}": True})


def _tokenizer() -> tokenizers.Tokenizer:
    """WordPiece, with [CLS] before and [SEP] after each text."""
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(WORDS[:4]))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def _values(name: str, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    normal = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
    if name.endswith("LayerNorm.weight"):
        return (1 + 0.1 * normal).astype(np.float32)
    return (normal * (0.1 if name.endswith("bias") else 0.2)).astype(np.float32)


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
