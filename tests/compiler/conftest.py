"""Compiling single kernels for this machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import tirx
from tvm.target import Target

from mlc_serve.compiler.pipeline import lowering
from mlc_serve.compiler.target import target_for

Kernel = Callable[..., None]


Build = Callable[[tirx.PrimFunc], Kernel]


@pytest.fixture(scope="session")
def build(build_for: Callable[[Target], Build]) -> Build:
    """A function that compiles a PrimFunc for this machine. The result takes NumPy arrays and numbers, and
    writes its results into its arrays.
    """
    return build_for(target_for("cpu"))


@pytest.fixture(scope="session")
def build_for() -> Callable[[Target], Build]:
    """A function that returns `build` for another CPU, whose code must run on this machine."""

    def build(target: Target, function: tirx.PrimFunc) -> Kernel:
        module = tvm.IRModule({"kernel": function.with_attr("global_symbol", "kernel")})
        with lowering(target):
            executable = tvm.compile(module, target=target)["kernel"]

        def call(*arguments: object) -> None:
            device = tvm.cpu()
            passed: list[Any] = [
                tvm.runtime.tensor(x, device) if isinstance(x, np.ndarray) else x for x in arguments
            ]
            executable(*passed)
            for given, tensor in zip(arguments, passed, strict=True):
                if isinstance(given, np.ndarray):
                    given[...] = tensor.numpy()

        return call

    return lambda target: partial(build, target)
