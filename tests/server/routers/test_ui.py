"""The page's files, as they are served and as they were built from the source."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

import httpx
import pytest

from mlc_serve import __version__
from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.config import ServerConfig
from mlc_serve.server.app import create_app
from mlc_serve.server.context import ServerContext
from mlc_serve.server.routers.ui import FILES, INDEX, PAGE_PATHS
from mlc_serve.testing import fake_model

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "ui"
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", "": "text/html"}


@pytest.mark.parametrize("path", sorted(PAGE_PATHS))
async def test_a_file_is_served(client: httpx.AsyncClient, path: str) -> None:
    """Each file comes with its type, and browsers may cache it if they check each time that it is current."""
    reply = await client.get(path)
    assert reply.content == (FILES / (path.removeprefix("/ui/").strip("/") or INDEX)).read_bytes()
    assert reply.headers["content-type"].startswith(TYPES[Path(path).suffix])
    assert reply.headers["cache-control"] == "no-cache"
    assert (await client.head(path)).headers["content-length"] == str(len(reply.content))
    kept = await client.get(path, headers={"If-None-Match": reply.headers["etag"]})
    assert (kept.status_code, kept.content) == (304, b"")


async def test_the_page_may_load_and_call_nothing_else(client: httpx.AsyncClient) -> None:
    """The policy names only this server, and the page contains no inline script or style."""
    reply = await client.get("/")
    policy = dict(part.split(" ", 1) for part in reply.headers["content-security-policy"].split("; "))
    assert (policy["default-src"], policy["connect-src"]) == ("'self'", "'self'")
    assert "unsafe" not in reply.headers["content-security-policy"]
    assert re.findall(r"<script[^>]*>(.+?)</script>|<style|\son\w+=", reply.text) == []
    assert {f"/{link}" for link in re.findall(r'(?:src|href)="([^"]+)"', reply.text)} <= {
        *PAGE_PATHS,
        "/docs",
    }


@pytest.mark.parametrize("path", ["/ui/index.html", "/ui/no.js", "/ui/../context.py", "/ui/%2e%2e/app.py"])
async def test_nothing_else_is_served(client: httpx.AsyncClient, path: str) -> None:
    """Each file has one address, and no other file can be fetched."""
    assert (await client.get(path)).status_code == 404


async def test_engines_tell_their_settings(client: httpx.AsyncClient) -> None:
    """The reply has device, scheme, pages and limits of each model; without a supervisor it names none."""
    facts = (await client.get("/ui/engine.json")).json()
    (model,) = facts["models"]
    assert (facts["version"], facts["supervisor"]) == (__version__, None)
    assert (model["name"], model["device"], model["quantization"]) == ("fake", "cpu", "q0f32")
    assert model["kv_cache"] == {"page_size": 4, "num_pages": 256}
    assert model["limits"]["max_num_sequence"] == 8


async def test_the_supervisor_may_be_called() -> None:
    """The page learns the supervisor's address, and may call it besides this server."""
    context = ServerContext("http://127.0.0.1:9000")
    context.add(AsyncMLCEngine.from_loaded(fake_model()))
    transport = httpx.ASGITransport(create_app(context, ServerConfig()))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        policy = (await client.get("/")).headers["content-security-policy"]
        facts = (await client.get("/ui/engine.json")).json()
    context.close()
    assert "connect-src 'self' http://127.0.0.1:9000;" in policy
    assert facts["supervisor"] == "http://127.0.0.1:9000"


def test_the_files_are_made_from_the_source() -> None:
    """`make ui` was run after the last change under ui/: the checksums that it noted match the source."""
    noted = {path: digest for digest, path in map(str.split, _lines("built.sha256"))}
    sources = {str(path.relative_to(SOURCE)) for path in (SOURCE / "src").iterdir()}
    assert sources <= set(noted), "new files; run `make ui`"
    for path, digest in noted.items():
        assert hashlib.sha256((SOURCE / path).read_bytes()).hexdigest() == digest, f"{path}; run `make ui`"


def test_the_lock_file_names_no_registry() -> None:
    """The lock file names no registry, so that npm may fetch packages from any."""
    assert '"resolved"' not in (SOURCE / "package-lock.json").read_text(encoding="utf-8")


def test_the_files_are_small_and_in_the_wheel() -> None:
    """The files that a chat loads have less than 150 kB together, and the wheel includes them all."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "server/ui/*" in project["tool"]["setuptools"]["package-data"]["mlc_serve"]
    assert all(path.is_file() for path in FILES.iterdir())
    assert sum(path.stat().st_size for path in FILES.iterdir() if "status" not in path.name) < 150_000


def _lines(name: str) -> list[str]:
    return (SOURCE / name).read_text(encoding="utf-8").splitlines()
