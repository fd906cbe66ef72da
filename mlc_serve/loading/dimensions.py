"""What a checkpoint's configuration says of the model, and whether its tensors bear it out.

It takes milliseconds, and comes before anything that takes longer: a configuration that can't be true is told
before a library is compiled for it.
"""

from __future__ import annotations

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.checkpoint.sources import check_tensors
from mlc_serve.errors import CheckpointError
from mlc_serve.models.llama_config import LlamaConfig
from mlc_serve.models.table import read_config


def read_dimensions(checkpoint: Checkpoint) -> LlamaConfig:
    """The model's dimensions. Raises CheckpointError, in one line that names the file and the key or the
    tensor, for an architecture or a configuration that is not supported, and for a tensor that is missing or
    has another shape than the configuration says.
    """
    try:
        dimensions = read_config(checkpoint.model_type, checkpoint.config)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint.config_file}: {error}") from error
    check_tensors(checkpoint, dimensions.tensor_shapes())
    return dimensions
