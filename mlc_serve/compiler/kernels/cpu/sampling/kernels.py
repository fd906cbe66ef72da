"""The kernels for sampling that every library for the CPU holds."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from mlc_serve.compiler.kernels.cpu.sampling.draw import choose_tokens
from mlc_serve.compiler.kernels.cpu.sampling.penalties import penalize_tokens
from mlc_serve.compiler.kernels.cpu.sampling.scores import score_rows
from mlc_serve.compiler.kernels.cpu.sampling.token_mask import mask_tokens

# By the names that `runtime.compiled_rows` calls them by. They take logits of any width.
KERNELS: dict[str, Callable[[], tirx.PrimFunc]] = {
    "choose_tokens": choose_tokens,
    "score_rows": score_rows,
    "penalize_tokens": penalize_tokens,
    "mask_tokens": mask_tokens,
}
