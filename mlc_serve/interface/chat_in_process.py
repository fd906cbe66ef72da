"""Runs a chat in the terminal with a model that this process loads."""

from __future__ import annotations

from mlc_serve.api.sync_engine import MLCEngine
from mlc_serve.chat.local_source import LocalSource
from mlc_serve.config import ChatConfig, EngineConfig, LaunchConfig
from mlc_serve.errors import StartupError
from mlc_serve.interface.chat import run_chat
from mlc_serve.interface.in_process import load_in_process


def chat_in_process(engine: EngineConfig, launch: LaunchConfig, chat: ChatConfig) -> int:
    """Load a model, chat, and return the exit code. Raises StartupError."""
    model = load_in_process(engine, launch)
    if model.chat_template is None:
        raise StartupError(f"{model.name}: the model has no chat template, so it can't chat")
    return run_chat(LocalSource(MLCEngine.from_loaded(model)), chat)
