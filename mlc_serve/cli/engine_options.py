"""The flags of commands that load a model into their own process: those of the engine and its device."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from dataclasses import fields

from mlc_serve.cli.parser import add_options, read_options
from mlc_serve.config import EngineConfig, LaunchConfig
from mlc_serve.config.speculation import MODEL_MODES
from mlc_serve.errors import ConfigError

MODEL_HELP = (
    "directory in Hugging Face or MLC format, org/name or HF://org/name on the hub, "
    "or the name of a model of mlc-ai"
)

# Settings that only a server uses.
_SERVERS_OWN = {
    "max_queued_requests",
    "max_queued_tokens",
    "max_choices",
    "first_token_timeout",
    "request_timeout",
}
_NOT_DEVICE = {entry.name for entry in fields(LaunchConfig)} - {"device"}


def add_engine_options(parser: argparse.ArgumentParser, without: Collection[str] = ()) -> None:
    """Add --overrides and the engine's flags, except those of the fields `without`."""
    parser.add_argument(
        "--overrides",
        metavar="KEY=VALUE;...",
        default="",
        help="limits and settings as for `serve`, whose --help lists the keys",
    )
    add_options(parser, "launch", LaunchConfig, without=_NOT_DEVICE)
    add_options(parser, "engine", EngineConfig, without={*_SERVERS_OWN, *without})


def read_engine(arguments: argparse.Namespace) -> tuple[EngineConfig, LaunchConfig]:
    """Read the configurations from the flags; verbose is off. Raises ConfigError."""
    engine = read_options(EngineConfig, arguments, model=arguments.model, verbose=False)
    if engine.additional_models and engine.speculative_mode not in MODEL_MODES:
        raise ConfigError(
            "--additional-models is here the model that drafts, so it needs a --speculative-mode such as "
            "small_draft; `serve` can serve several models"
        )
    return engine.overridden(arguments.overrides), read_options(LaunchConfig, arguments)


def refuse_engine_options(arguments: argparse.Namespace) -> None:
    """Raise ConfigError if an engine option is given together with --url."""
    names = {entry.name for config in (EngineConfig, LaunchConfig) for entry in fields(config)} - {"model"}
    given = sorted(names & vars(arguments).keys()) + ["overrides"] * bool(arguments.overrides)
    if given:
        flag = f"--{given[0].replace('_', '-')}"
        raise ConfigError(f"{flag} can't be combined with --url: that server has already loaded its model")


def keep_torch_out() -> None:
    """Keep TVM's FFI from importing torch if it is installed, which would waste seconds and memory."""
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]  # None makes the import fail, as documented
