"""The lines of the log: text for people, or JSON for programs that collect logs."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from mlc_serve.server.middleware.request_id import request_id

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def formatter_for(log_format: str) -> logging.Formatter:
    """Return what writes the records of a log in a format, text or json."""
    return JSONLines() if log_format == "json" else logging.Formatter(_TEXT)


class JSONLines(logging.Formatter):
    """Writes each record as a JSON object on one line, with the time in UTC.

    The id of the request during which the record was logged is added, and so are the record's own `fields`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        facts: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id.get(),
            **getattr(record, "fields", {}),
            "exception": self.formatException(record.exc_info) if record.exc_info else None,
        }
        known = {name: value for name, value in facts.items() if value is not None}
        return json.dumps(known, ensure_ascii=False, default=str)
