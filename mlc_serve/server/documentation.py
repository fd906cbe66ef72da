"""Adds request bodies and errors to the OpenAPI document, because FastAPI does not know them, and removes the
error that it lists by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from mlc_serve.errors import RequestError
from mlc_serve.protocol.errors import ErrorReply
from mlc_serve.protocol.replies import Reply
from mlc_serve.protocol.request_part import RequestPart

# The events of a stream whose data is an object with the event's name as its `type`.
NAMED_EVENTS: dict[str, Any] = {
    "schema": {
        "type": "object",
        "description": "Events. The data is an object whose `type` is the event's name.",
        "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    }
}
# Any path may answer with these statuses, since the layers in front of the paths do.
ANYWHERE = (400, 401, 405, 408, 413, 421, 431, 500, 503)
_COMPONENTS = "#/components/schemas/{model}"


class DocumentedApp(FastAPI):
    """An application whose OpenAPI document lists the types inside request bodies as components."""

    def openapi(self) -> dict[str, Any]:
        """Return the document, which is made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            _leave_out_422(document)
            for schema in _body_schemas(document):
                document["components"]["schemas"].update(schema.pop("$defs", {}))
        return super().openapi()


def takes(kind: type[RequestPart]) -> dict[str, Any]:
    """Return FastAPI's `openapi_extra` for an operation whose body is of this kind."""
    schema = kind.model_json_schema(ref_template=_COMPONENTS)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def refuses_with(*statuses: int, model: type[Reply] = ErrorReply) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's `responses` for an operation that may answer with these error statuses."""
    return {status: {"model": model, "description": f"Refused: {_codes(status)}."} for status in statuses}


def _codes(status: int) -> str:
    """Return the codes of the errors that have this status."""
    return " or ".join(
        f"`{kind.code}`" for kind in _kinds(RequestError) if kind.status == status and kind.code
    )


def _kinds(kind: type[RequestError]) -> Iterator[type[RequestError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _kinds(child)


def _leave_out_422(document: dict[str, Any]) -> None:
    """Remove the status that FastAPI lists for every path with a parameter, with the schemas of its body. Our
    parameters are texts, which can't be of a wrong type.
    """
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _body_schemas(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for operations in document["paths"].values():
        for operation in operations.values():
            if "requestBody" in operation:
                yield operation["requestBody"]["content"]["application/json"]["schema"]
