"""Addresses of servers."""

from __future__ import annotations

import pytest

from mlc_serve.errors import ConfigError
from mlc_serve.router.address import Address


@pytest.mark.parametrize(
    ("url", "address", "netloc"),
    [
        ("http://a:8000", Address("http", "a", 8000, ""), "a:8000"),
        ("https://a", Address("https", "a", 443, ""), "a:443"),
        ("http://[::1]:1/llm/", Address("http", "::1", 1, "/llm"), "[::1]:1"),
    ],
)
def test_an_address_is_read(url: str, address: Address, netloc: str) -> None:
    """Scheme, host, port and prefix are taken from a URL."""
    assert Address.of(url) == address
    assert address.netloc == netloc


@pytest.mark.parametrize(
    "url",
    [
        "a:8000",
        "ftp://a",
        "http://",
        "http://a:x",
        "http://a:0",
        "http://a?b",
        "http://k@a",
        "http://a/ b",
        "http://ä",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    """The message names the setting and says what was expected."""
    with pytest.raises(ConfigError, match=r"backends: .* expected the address of a server"):
        Address.of(url)
