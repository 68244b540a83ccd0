"""The OpenAPI 3.1 description of the control API, made from its table of routes."""

from __future__ import annotations

import inspect
import re
from typing import Any, Final

import msgspec

from strongroom import __version__
from strongroom.console.api import ROWS, NoBody, Row

_ERROR: Final = {
    "description": "What went wrong, with a stable code (docs/errors.md).",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {"error": {"type": "object", "additionalProperties": {"type": "string"}}},
            }
        }
    },
}


def document() -> bytes:
    """Return the description as JSON."""
    kinds = list(dict.fromkeys(kind for row in ROWS for kind in (row.answer, row.body) if kind is not NoBody))
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    by_kind = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, object]] = {}
    for row in ROWS:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, by_kind)
    scheme = {"type": "http", "scheme": "bearer"}
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "Strongroom control API", "version": __version__},
            "security": [{"token": []}],
            "paths": paths,
            "components": {"schemas": components, "securitySchemes": {"token": scheme}},
        }
    )


def _operation(row: Row[Any], schemas: dict[type, dict[str, object]]) -> dict[str, object]:
    names = re.findall(r"{(\w+)}", row.path)
    operation: dict[str, object] = {
        "operationId": row.act.__name__,
        "summary": inspect.getdoc(row.act),
        "responses": {
            str(int(row.status)): {"description": "Done.", "content": _content(schemas[row.answer])},
            "default": _ERROR,
        },
    }
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if row.body is not NoBody:
        operation["requestBody"] = {"required": True, "content": _content(schemas[row.body])}
    return operation


def _content(schema: dict[str, object]) -> dict[str, object]:
    return {"application/json": {"schema": schema}}
