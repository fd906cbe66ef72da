"""What the OpenAPI document says of bodies and refusals: FastAPI sees neither the ones nor the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from mlc_serve.errors import RequestError
from mlc_serve.protocol.errors import ErrorReply
from mlc_serve.protocol.request_part import RequestPart

# What can be answered whatever is asked for: the layers before the paths refuse with these.
ANYWHERE = (400, 401, 405, 408, 413, 421, 431, 500, 503)
_COMPONENTS = "#/components/schemas/{model}"


class DocumentedApp(FastAPI):
    """An application whose document has the types within bodies among its components."""

    def openapi(self) -> dict[str, Any]:
        """The document. It is made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            for schema in _body_schemas(document):
                document["components"]["schemas"].update(schema.pop("$defs", {}))
        return super().openapi()


def takes(kind: type[RequestPart]) -> dict[str, Any]:
    """FastAPI's `openapi_extra` of an operation whose body is of this kind."""
    schema = kind.model_json_schema(ref_template=_COMPONENTS)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def refuses_with(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """FastAPI's `responses` of an operation that can be answered with these statuses."""
    return {
        status: {"model": ErrorReply, "description": f"Refused: {_codes(status)}."} for status in statuses
    }


def _codes(status: int) -> str:
    """The codes of the errors that have a status."""
    return " or ".join(
        f"`{kind.code}`" for kind in _kinds(RequestError) if kind.status == status and kind.code
    )


def _kinds(kind: type[RequestError]) -> Iterator[type[RequestError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _kinds(child)


def _body_schemas(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for operations in document["paths"].values():
        for operation in operations.values():
            if "requestBody" in operation:
                yield operation["requestBody"]["content"]["application/json"]["schema"]
