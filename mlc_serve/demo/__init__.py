"""Says where the small chat model is that ships with the package, and where what drafts for it."""

from __future__ import annotations

from pathlib import Path

DEMO_MODEL_NAME = "demo"

_DRAFTS = {"small_draft": "draft", "eagle": "eagle", "medusa": "medusa"}


def demo_model_path() -> Path:
    """The Hugging Face directory of the demo model inside the installed package."""
    return Path(__file__).parent / "model"


def demo_draft_path(speculative_mode: str) -> Path:
    """The directory of what drafts for the demo model in the mode small_draft, eagle or medusa."""
    return Path(__file__).parent / _DRAFTS[speculative_mode]
