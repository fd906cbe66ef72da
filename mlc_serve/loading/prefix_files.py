"""Where a model's prefixes are stored, and what they depend on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.config import EngineConfig
from mlc_serve.engine.sequence_state import SequenceState
from mlc_serve.errors import ConfigError
from mlc_serve.host.disk import size_text
from mlc_serve.host.private_directory import private_directory
from mlc_serve.loaded_model import PrefixFiles
from mlc_serve.loading.artifacts import Report
from mlc_serve.runtime.library import Library

# Below the directory that is set, so that this may be a mounted one that belongs to another user.
_OWN_DIRECTORY = "prefixes"


def find_prefix_files(
    config: EngineConfig, checkpoint: Checkpoint, library: Library, state: SequenceState, report: Report
) -> PrefixFiles | None:
    """Return where prefixes are kept, or None if that is not set. Raises ConfigError."""
    if config.prefix_cache_dir is None:
        return None
    if state.layout is None:
        raise ConfigError(
            "prefix_cache_dir: only keys and values of whole sequences on the CPU can be stored, and "
            f"{checkpoint.directory.name} keeps a window, a recurrent state, or TVM's cache"
        )
    directory = private_directory(Path(config.prefix_cache_dir) / _OWN_DIRECTORY, "prefix_cache_dir")
    report(f"Prefixes are stored in {directory}, which may take {size_text(config.prefix_cache_size)}.")
    described = {
        "checkpoint": checkpoint.fingerprint(),
        "quantization": library.quantization,
        "library": library.digest,
    }
    key = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    return PrefixFiles(directory, config.prefix_cache_size, key)
