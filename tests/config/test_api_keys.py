"""Where API keys come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlc_serve.config import ServerConfig
from mlc_serve.config.api_keys import ADMIN_VARIABLE, VARIABLE, as_text, keys_in, with_all_keys
from mlc_serve.errors import ConfigError


def test_flags_environment_and_file_are_added_up(tmp_path: Path) -> None:
    """Keys are in this order, each once; the file is not read again from the resulting configuration."""
    file = tmp_path / "keys"
    file.write_text("third\n\n  fourth\t\nfirst\n", encoding="utf-8")
    config = ServerConfig(api_keys=("first",), api_key_file=str(file))
    merged = with_all_keys(config, {VARIABLE: "second"})
    assert merged == ServerConfig(api_keys=("first", "second", "third", "fourth"))


def test_without_any_there_are_none() -> None:
    """An empty variable, which container files may set, has no keys."""
    assert with_all_keys(ServerConfig(), {VARIABLE: ""}) == ServerConfig()


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("a", ["a"]),
        ("a, b,,", ["a", "b"]),
        ("a\nb\r\n", ["a", "b"]),
        ("a,b\n", ["a,b"]),
        ("voilà\n", ["voilà"]),
        ("\u0085x\u00a0", ["\u0085x\u00a0"]),
    ],
)
def test_keys_of_a_text(text: str, keys: list[str]) -> None:
    """Line breaks or commas separate keys; only ASCII spaces around them are removed."""
    assert list(keys_in(text)) == keys
    assert list(keys_in(as_text(keys))) == keys


@pytest.mark.parametrize("content", [None, b"", b" \n\n", b"\xff\n"])
def test_a_file_without_keys_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    """A server that should have keys doesn't start without them."""
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"api_key_file: .*keys"):
        with_all_keys(ServerConfig(api_key_file=str(file)), {})


def test_the_admin_key_has_the_same_sources(tmp_path: Path) -> None:
    """The flag comes before the environment, and that before the file; it must differ from ordinary keys."""
    file = tmp_path / "key"
    file.write_text("of-file\n", encoding="utf-8")
    config, environment = ServerConfig(admin_api_key_file=str(file)), {ADMIN_VARIABLE: "of-environment\n"}
    assert with_all_keys(config, {}) == ServerConfig(admin_api_key="of-file")
    assert with_all_keys(config, environment) == ServerConfig(admin_api_key="of-environment")
    assert with_all_keys(ServerConfig(admin_api_key="of-flag"), environment).admin_api_key == "of-flag"
    with pytest.raises(ConfigError, match="admin_api_key is also"):
        with_all_keys(ServerConfig(admin_api_key="k", api_keys=("k",)), {})
