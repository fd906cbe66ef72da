"""What the settings of speculative decoding must agree on."""

from __future__ import annotations

from typing import Any

from mlc_serve.errors import ConfigError

# The modes in which a second model drafts.
MODEL_MODES = ("small_draft", "eagle", "medusa")


def check_speculation(config: Any) -> None:
    """Raise ConfigError, which names the setting, if the settings of drafts contradict each other."""
    mode, models = config.speculative_mode, config.additional_models
    if config.spec_tree_width not in (None, 1):
        raise ConfigError(
            f"spec_tree_width = {config.spec_tree_width} is not supported: drafts are chains here, in which "
            "each token follows the one before it, because a tree's branches are computed in vain but for one"
        )
    if mode == "disable" and config.spec_draft_length:
        raise ConfigError(
            f"spec_draft_length = {config.spec_draft_length} needs a speculative_mode, such as ngram"
        )
    if mode in MODEL_MODES and len(models) != 1:
        raise ConfigError(
            f"speculative_mode = {mode} takes exactly one of additional_models, the one that drafts, and "
            f"there are {len(models)}"
        )
