"""Which instructions a target's processor has."""

from __future__ import annotations

from tvm.target import Target
from tvm.target.codegen import target_has_features


def has(target: Target, feature: str) -> bool:
    """Whether code for `target` may use a feature, by LLVM's name for it: `avx512bf16`, `avx512vnni`, ..."""
    return target.kind.name == "llvm" and bool(target_has_features(feature, target))
