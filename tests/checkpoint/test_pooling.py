"""Reading what the files of sentence-transformers and of MLC say about embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlc_serve.checkpoint.pooling import is_made_for_embeddings, read_pooling
from mlc_serve.engine.pooling import Pooling, PoolingMode
from mlc_serve.errors import CheckpointError
from tests.encoder_checkpoints import write_encoder


def modules(path: Path, *types: str) -> Path:
    """Write modules.json, with a directory for each module, named by its type."""
    entries = [{"path": kind, "type": f"sentence_transformers.models.{kind}"} for kind in types]
    (path / "modules.json").write_text(json.dumps(entries))
    return path


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"pooling": "cls_token"}, Pooling(PoolingMode.CLS)),
        ({"pooling": "lasttoken", "normalizes": False}, Pooling(PoolingMode.LAST, normalizes=False)),
        ({"pooling": "mean_tokens", "max_seq_length": 60}, Pooling(PoolingMode.MEAN, max_tokens=60)),
        ({}, Pooling(PoolingMode.CLS)),
    ],
)
def test_the_files_say_how_to_pool(tmp_path: Path, keys: dict[str, Any], expected: Pooling) -> None:
    """Mode, normalization and the longest input are read; without modules.json the default is used."""
    assert read_pooling(write_encoder(tmp_path, **keys), PoolingMode.CLS) == expected


def test_the_newer_form_names_the_mode(tmp_path: Path) -> None:
    """A text in place of the switches is understood as well."""
    (modules(tmp_path, "Transformer", "Pooling") / "Pooling").mkdir()
    (tmp_path / "Pooling/config.json").write_text('{"pooling_mode": "lasttoken"}')
    assert read_pooling(tmp_path, PoolingMode.MEAN) == Pooling(PoolingMode.LAST, normalizes=False)


def test_mlc_says_how_to_pool(tmp_path: Path) -> None:
    """And that a model is made for embeddings, though it could generate text."""
    path = tmp_path / "mlc-chat-config.json"
    path.write_text('{"model_task": "chat", "embedding_metadata": null}')
    assert not is_made_for_embeddings(tmp_path)
    assert read_pooling(tmp_path, PoolingMode.MEAN) == Pooling(PoolingMode.MEAN)
    stated = {"model_type": "decoder", "pooling_strategy": "last", "normalize": False}
    path.write_text(json.dumps({"model_task": "embedding", "embedding_metadata": stated}))
    assert is_made_for_embeddings(tmp_path)
    assert read_pooling(tmp_path, PoolingMode.MEAN) == Pooling(PoolingMode.LAST, normalizes=False)
    path.write_text(json.dumps({"embedding_metadata": stated | {"pooling_strategy": "max"}}))
    with pytest.raises(
        CheckpointError, match=r"mlc-chat-config\.json: embedding_metadata .*is not supported"
    ):
        read_pooling(tmp_path, PoolingMode.MEAN)


def test_what_is_not_supported_is_named(tmp_path: Path) -> None:
    """Another pooling, another module and a file that is missing are errors that name the file."""
    with pytest.raises(CheckpointError, match=r"1_Pooling/config\.json: .*pooling_mode_max_tokens"):
        read_pooling(write_encoder(tmp_path, pooling="max_tokens"), PoolingMode.MEAN)
    with pytest.raises(CheckpointError, match=r"modules\.json: a module of the type Dense"):
        read_pooling(modules(tmp_path, "Transformer", "Dense"), PoolingMode.MEAN)
    with pytest.raises(CheckpointError, match=r"there is no Pooling/config\.json"):
        read_pooling(modules(tmp_path, "Transformer", "Pooling"), PoolingMode.MEAN)
    (tmp_path / "modules.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"modules\.json: expected a list"):
        read_pooling(tmp_path, PoolingMode.MEAN)
