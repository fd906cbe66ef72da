"""The page at /: its built files, and what it shows of the engines beside /metrics.

The files are made from ui/ by `make ui`. They are open to everybody, and hold no more than the source does.
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
# Exact paths, so that nothing else opens with them.
PAGE_PATHS = frozenset({"/", *(f"/ui/{file.name}" for file in FILES.iterdir() if file.name != INDEX)})


_files = StaticFiles(directory=FILES)
router = APIRouter(tags=["page"])


@router.get("/ui/engine.json")
async def engines(request: Request) -> dict[str, Any]:
    """What each engine was started with, and where the supervisor answers, if one runs this server."""
    context = serving_of(request).context
    return {
        "version": __version__,
        "supervisor": context.supervisor_url,
        "models": [served.card() for served in context.all_served],
    }


async def page_file(request: Request) -> Response:
    """One of the page's files."""
    name = request.url.path.removeprefix("/").removeprefix("ui/") or INDEX
    response = await _files.get_response(name, request.scope)
    response.headers.update(_headers(serving_of(request).context.supervisor_url))
    return response


for path in sorted(PAGE_PATHS):
    router.add_api_route(path, page_file, methods=["GET", "HEAD"], include_in_schema=False)


def _headers(supervisor_url: str | None) -> dict[str, str]:
    """Nothing is loaded from elsewhere, and nothing but the server and its supervisor is called.

    Names don't change with the content, so browsers ask each time whether what they have is current.
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
