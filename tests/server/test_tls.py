"""The files that make a server speak TLS."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from mlc_serve.config import ServerConfig
from mlc_serve.errors import EXIT_CONFIG_ERROR, ConfigError
from mlc_serve.server.tls import PASSWORD_VARIABLE, server_context
from tests.certificates import Certificates


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """Certificates in this test's directory."""
    return Certificates(tmp_path)


def encrypted(certificate: str, password: str) -> str:
    """A file with the private key of a certificate, encrypted."""
    key = serialization.load_pem_private_key(Path(certificate).read_bytes(), None)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.encode()),
    )
    path = Path(certificate).with_suffix(".key")
    path.write_bytes(pem)
    return str(path)


def fault(environment: Mapping[str, str] | None = None, **files: Any) -> str:
    """Why a server with these files can't start, in one line."""
    with pytest.raises(ConfigError) as caught:
        server_context(ServerConfig(**files), environment or {})
    assert caught.value.exit_code == EXIT_CONFIG_ERROR
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_a_certificate_there_is_no_tls() -> None:
    """A server without these settings speaks plain HTTP."""
    assert server_context(ServerConfig(), {}) is None
    assert ServerConfig().scheme == "http"


def test_the_password_comes_from_a_file_or_the_environment(
    certificates: Certificates, tmp_path: Path
) -> None:
    """An encrypted key is read with the first line of the file, or else with the variable."""
    key = encrypted(certificates.server, "pass word")
    files: dict[str, Any] = {"ssl_certfile": certificates.server, "ssl_keyfile": key}
    password = tmp_path / "password"
    password.write_text("pass word\n", encoding="utf-8")
    config = ServerConfig(**files, ssl_keyfile_password_file=str(password))
    assert isinstance(server_context(config, {}), ssl.SSLContext)
    assert server_context(ServerConfig(**files), {PASSWORD_VARIABLE: "pass word"})
    assert "needs a password" in fault(**files)
    assert fault({PASSWORD_VARIABLE: "other"}, **files).startswith("ssl_keyfile: the password")


def test_each_file_that_can_not_be_used_is_named(certificates: Certificates, tmp_path: Path) -> None:
    """The message names the setting and the file: missing, empty, of another kind, or for another key."""
    missing, empty = str(tmp_path / "missing"), tmp_path / "empty"
    empty.write_text("", encoding="utf-8")
    own = certificates.server
    assert fault(ssl_certfile=missing) == f"ssl_certfile: can't read {missing}: No such file or directory"
    assert fault(ssl_certfile=str(empty)).startswith("ssl_certfile: ")
    assert "private key" in fault(ssl_certfile=certificates.authority)
    assert fault(ssl_certfile=own, ssl_keyfile=missing).startswith(f"ssl_keyfile: can't read {missing}")
    assert "another certificate" in fault(ssl_certfile=own, ssl_keyfile=certificates.client)
    assert fault(ssl_certfile=own, ssl_ca_certs=str(empty)).startswith("ssl_ca_certs: ")
    assert "is empty" in fault(ssl_certfile=own, ssl_keyfile_password_file=str(empty))


@pytest.mark.parametrize("name", ["ssl_keyfile", "ssl_keyfile_password_file", "ssl_ca_certs"])
def test_files_without_a_certificate_are_refused(name: str) -> None:
    """A server that should speak TLS doesn't start without it."""
    files: dict[str, Any] = {name: "file"}
    with pytest.raises(ConfigError, match=f"{name} has no effect without a certificate"):
        ServerConfig(**files)
