"""Says where the small chat model is that ships with the package."""

from __future__ import annotations

from pathlib import Path

DEMO_MODEL_NAME = "demo"


def demo_model_path() -> Path:
    """The Hugging Face directory of the demo model inside the installed package."""
    return Path(__file__).parent / "model"
