"""What the settings of speculative decoding must agree on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlc_serve.demo import demo_draft_path, demo_model_path
from mlc_serve.errors import ConfigError

# The modes in which a second model drafts.
MODEL_MODES = ("small_draft", "eagle", "medusa")


def draft_models(config: Any) -> Sequence[str | tuple[str, str]]:
    """Return what drafts in a mode of MODEL_MODES: the additional models, or, if none are named and the model
    is the demo model, what ships with that.
    """
    if not config.additional_models and config.model in (None, str(demo_model_path())):
        return (str(demo_draft_path(config.speculative_mode)),)
    models: Sequence[str | tuple[str, str]] = config.additional_models
    return models


def check_speculation(config: Any) -> None:
    """Raise ConfigError, which names the setting, if the settings of drafts contradict each other."""
    mode = config.speculative_mode
    if config.spec_tree_width not in (None, 1):
        raise ConfigError(
            f"spec_tree_width = {config.spec_tree_width} is not supported: drafts are chains here, in which "
            "each token follows the one before it, because a tree's branches are computed in vain but for one"
        )
    if mode == "disable" and config.spec_draft_length:
        raise ConfigError(
            f"spec_draft_length = {config.spec_draft_length} needs a speculative_mode, such as ngram"
        )
    if mode in MODEL_MODES and len(draft_models(config)) != 1:
        raise ConfigError(
            f"speculative_mode = {mode} takes exactly one of additional_models, the one that drafts, and "
            f"there are {len(config.additional_models)}"
        )
