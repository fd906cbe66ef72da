"""Certificates that tests make for servers and clients on localhost."""

from __future__ import annotations

import ssl
from functools import cached_property
from pathlib import Path

import trustme


class Certificates:
    """An authority, and certificates that it has signed, as PEM files in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority = trustme.CA()
        self.authority = str(directory / "authority.pem")
        self._authority.cert_pem.write_to_path(self.authority)

    @cached_property
    def server(self) -> str:
        """The file with the server's certificate and its key."""
        return self._issue("server", "localhost", "127.0.0.1")

    @cached_property
    def client(self) -> str:
        """The file with a client's certificate and its key."""
        return self._issue("client", "client@example.org")

    def trust(self, certificate: str | None = None) -> ssl.SSLContext:
        """What a client needs to trust the server, and to show its own certificate if it has one."""
        context = ssl.create_default_context(cafile=self.authority)
        if certificate is not None:
            context.load_cert_chain(certificate)
        return context

    def _issue(self, name: str, *identities: str) -> str:
        path = self._directory / f"{name}.pem"
        self._authority.issue_cert(*identities).private_key_and_cert_chain_pem.write_to_path(str(path))
        return str(path)
