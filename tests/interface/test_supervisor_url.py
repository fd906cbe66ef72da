"""The supervisor's address comes from the environment, and nothing else does."""

from __future__ import annotations

import pytest

from mlc_serve.errors import ConfigError
from mlc_serve.interface.supervisor_url import supervisor_url


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:9000", "http://localhost:9000/", "https://[::1]:1", "http://my-host.local:80"]
)
def test_an_address_is_taken(text: str) -> None:
    """Scheme, host and port, with or without a slash behind them."""
    assert supervisor_url({"MLC_SERVE_SUPERVISOR": text}) == text.removesuffix("/")


@pytest.mark.parametrize("environ", [{}, {"MLC_SERVE_SUPERVISOR": ""}])
def test_there_need_be_none(environ: dict[str, str]) -> None:
    """Unset and empty mean that no supervisor runs this process."""
    assert supervisor_url(environ) is None


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:9000",
        "http://127.0.0.1",
        "http://127.0.0.1:9000/status",
        "ftp://h:1",
        "http://a:1 *",
        "http://a:1; script-src *",
        "http://u@h:1",
        "http://h:1\n",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """What could change the page's Content-Security-Policy, or is no address, is named."""
    with pytest.raises(ConfigError, match="MLC_SERVE_SUPERVISOR is "):
        supervisor_url({"MLC_SERVE_SUPERVISOR": text})
