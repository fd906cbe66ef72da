"""The server's side of TLS: its certificate, and the authorities that sign those of its clients."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

from mlc_serve.config import ServerConfig
from mlc_serve.errors import ConfigError

PASSWORD_VARIABLE = "MLC_SERVE_SSL_KEYFILE_PASSWORD"  # noqa: S105  the name of a variable


def server_context(config: ServerConfig, environment: Mapping[str, str]) -> ssl.SSLContext | None:
    """Return the settings of TLS, or None if the server speaks plain HTTP.

    Raises ConfigError if a file is missing, is not of the right kind, or doesn't fit the others.
    """
    if config.ssl_certfile is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load_certificate(context, config.ssl_certfile, config, environment)
    if config.ssl_ca_certs is not None:
        _load_authorities(context, config.ssl_ca_certs)
    return context


def _load_certificate(
    context: ssl.SSLContext, certificate: str, config: ServerConfig, environment: Mapping[str, str]
) -> None:
    name = "ssl_certfile" if config.ssl_keyfile is None else "ssl_keyfile"
    key = config.ssl_keyfile or certificate
    _check_pem("ssl_certfile", certificate, "CERTIFICATE")
    _check_pem(name, key, "PRIVATE KEY")
    password = _Password(_password(config, environment))
    try:
        context.load_cert_chain(certificate, key, password)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"{name}: {password.fault() or _fault(error)}: {key}") from error


def _load_authorities(context: ssl.SSLContext, path: str) -> None:
    _check_pem("ssl_ca_certs", path, "CERTIFICATE")
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise ConfigError(f"ssl_ca_certs: {_fault(error)}: {path}") from error
    # Probes come without a certificate; each connection decides what it answers.
    context.verify_mode = ssl.CERT_OPTIONAL


class _Password:
    """Answers OpenSSL when it asks for the key's password, which it would otherwise do on the terminal."""

    def __init__(self, password: str | None) -> None:
        self._password = password
        self._was_needed = False

    def __call__(self) -> str:
        self._was_needed = True
        return self._password or ""

    def fault(self) -> str | None:
        """Return what is wrong with the password if the key can't be read; None if it has none."""
        if not self._was_needed:
            return None
        if self._password is None:
            return f"set ssl_keyfile_password_file or {PASSWORD_VARIABLE}, since this key needs a password"
        return "the password of this key is wrong"


def _fault(error: Exception) -> str:
    """Return in words why OpenSSL can't use a file."""
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return "this key belongs to another certificate"
    return f"OpenSSL can't read this file ({reason or error})"


def _password(config: ServerConfig, environment: Mapping[str, str]) -> str | None:
    path = config.ssl_keyfile_password_file
    if path is None:
        return environment.get(PASSWORD_VARIABLE)
    lines = _text("ssl_keyfile_password_file", path).splitlines()
    if not lines:
        raise ConfigError(f"ssl_keyfile_password_file: {path} is empty")
    return lines[0]


def _check_pem(name: str, path: str, kind: str) -> None:
    if f"{kind}-----" not in _text(name, path):
        raise ConfigError(f"{name}: {path} contains no {kind.lower()} in PEM format")


def _text(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{name}: can't read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: {path} is not a text file") from error
