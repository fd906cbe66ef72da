"""The server conforms to its OpenAPI document whatever is sent: schemathesis tries for a minute."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.e2e.live_server import live_server

SECONDS = 60
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)


def test_no_request_is_answered_with_what_the_document_does_not_have(tmp_path: Path) -> None:
    """On all paths, no reply has a status 5xx, or a status, type or schema that is not documented.

    The seed determines what is sent and in which order; the time limits how much.
    """
    with live_server(enable_debug=True) as server:
        tried = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"),
                *("run", f"{server.url}/openapi.json"),
                *("--checks", ",".join(CHECKS)),
                *("--max-time", str(SECONDS)),
                *("--seed", "1"),
                *("--suppress-health-check", "all", "--warnings", "off", "--no-color"),
            ],
            cwd=tmp_path,  # where schemathesis keeps its examples
            capture_output=True,
            text=True,
            timeout=4 * SECONDS,
            check=False,
        )
    assert tried.returncode == 0, tried.stdout + tried.stderr
