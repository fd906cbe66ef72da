"""The page at /: its built files, and the facts about the engines that it shows in addition to /metrics.

`make ui` builds the files from ui/. They need no API key, since they contain nothing but public source.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles

from mlc_serve import __version__
from mlc_serve.server.serving import serving_of

FILES = Path(__file__).parent.parent / "ui"
INDEX = "index.html"
# These are exact paths, so that no other path is open without a key.
PAGE_PATHS = frozenset({"/", *(f"/ui/{file.name}" for file in FILES.iterdir() if file.name != INDEX)})


_files = StaticFiles(directory=FILES)
router = APIRouter(tags=["page"])


@router.get("/ui/engine.json")
async def engines(request: Request) -> dict[str, Any]:
    """Return what each engine was started with, and the supervisor's address if one runs this server."""
    context = serving_of(request).context
    return {
        "version": __version__,
        "supervisor": context.supervisor_url,
        "models": [served.card() for served in context.all_served],
    }


async def page_file(request: Request) -> Response:
    """Return one of the page's files."""
    name = request.scope["path"].removeprefix("/").removeprefix("ui/") or INDEX
    response = await _files.get_response(name, request.scope)
    response.headers.update(_headers(serving_of(request).context.supervisor_url))
    return response


for path in sorted(PAGE_PATHS):
    router.add_api_route(path, page_file, methods=["GET", "HEAD"], include_in_schema=False)


def _headers(supervisor_url: str | None) -> dict[str, str]:
    """Return headers that let the page load nothing from elsewhere, and call only the server and its
    supervisor.

    File names don't change with the content, so browsers must ask each time whether their copy is current.
    """
    callable_origins = f"'self' {supervisor_url}" if supervisor_url else "'self'"
    policy = {
        "default-src": "'self'",
        "connect-src": callable_origins,
        "img-src": "'self' data:",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
