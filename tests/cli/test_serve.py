"""Every flag of `mlc_serve serve` reaches its setting."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from mlc_serve.cli import serve
from mlc_serve.cli.parser import CommandParser, read_options
from mlc_serve.config import EngineConfig, LaunchConfig, ServerConfig
from mlc_serve.config.option import command_line, options_of

MLC_FLAGS = (
    "--device --model-lib --mode --enable-debug --additional-models --embedding-model --embedding-model-lib "
    "--speculative-mode --prefix-cache-mode --prefill-mode --overrides --enable-tracing --host --port "
    "--allow-credentials --allow-origins --allow-methods --allow-headers --api-key "
    "--allowed-origins --allowed-methods --allowed-headers"
)


def parser() -> CommandParser:
    """The serve command's parser."""
    return serve.add_parser(CommandParser(prog="mlc_serve").add_subparsers())


def read(argv: Sequence[str]) -> tuple[LaunchConfig, ServerConfig, EngineConfig]:
    """The three configurations that a command line stands for."""
    arguments = parser().parse_args(argv)
    engine = read_options(EngineConfig, arguments, model=arguments.model)
    return (
        read_options(LaunchConfig, arguments),
        read_options(ServerConfig, arguments),
        engine.overridden(arguments.overrides),
    )


@pytest.mark.parametrize("flag", MLC_FLAGS.split())
def test_every_flag_of_mlc_is_known(flag: str) -> None:
    """A command line for mlc_llm serve is accepted with all its flags, including both spellings of the CORS
    ones.
    """
    assert flag in parser().flags


def test_no_arguments_are_the_defaults() -> None:
    """Without flags the configurations have their declared defaults."""
    assert read([]) == (LaunchConfig(), ServerConfig(), EngineConfig())


def test_flags_set_fields() -> None:
    """Plain, repeated, list and boolean flags arrive with their types."""
    launch, server, engine = read(
        "dir --device cpu --enable-tracing --host ::1 --port 0 --api-key a --api-key b --allow-credentials "
        "--no-ui --allowed-origins ['x'] --mode server --max-queued-requests 7 --quantization q0f16 "
        "--additional-models m1 m2,lib.so".replace("'", '"').split()
    )
    assert launch == LaunchConfig(device="cpu", enable_tracing=True)
    assert server == ServerConfig(
        host="::1",
        port=0,
        api_keys=("a", "b"),
        allow_credentials=True,
        allow_origins=("x",),
        enable_ui=False,
    )
    assert engine == EngineConfig(
        model="dir",
        mode="server",
        max_queued_requests=7,
        quantization="q0f16",
        additional_models=("m1", ("m2", "lib.so")),
    )


def test_overrides_win_over_flags() -> None:
    """A setting that is both a flag and an override has the override's value."""
    _, _, engine = read(
        ["--prefill-mode", "hybrid", "--overrides", "prefill_mode=chunked;max_num_sequence=3"]
    )
    assert (engine.prefill_mode, engine.max_num_sequence) == ("chunked", 3)


def test_a_written_command_line_is_read_back() -> None:
    """The flags that command_line writes for a configuration are read as the same configuration."""
    configs = (
        LaunchConfig(device="cuda:1", enable_tracing=True),
        ServerConfig(
            port=9,
            api_keys=("k",),
            allow_origins=("a", "b"),
            served_model_name=("name", "alias"),
            enable_debug=True,
            enable_ui=False,
            shutdown_timeout=1.5,
        ),
        EngineConfig(
            model="dir",
            mode="interactive",
            max_num_sequence=3,
            gpu_memory_utilization=0.25,
            prefix_cache_max_num_recycling_seqs=-1,
            prefill_mode="chunked",
            additional_models=("x", ("y", "z.so")),
            verbose=False,
        ),
    )
    assert read(["dir", *(argument for config in configs for argument in command_line(config))]) == configs


def test_help_explains_every_override() -> None:
    """--help lists each key of --overrides."""
    text = parser().format_help()
    keys = {declared.override for _, _, declared in options_of(EngineConfig) if declared.override}
    assert keys - set(re.findall(r"[\w-]+", text)) == set()
