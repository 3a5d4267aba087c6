# SPDX-License-Identifier: Apache-2.0
"""JSON that commands print, held against its schema under docs/schema.

Schemas let a field be added, as documents.py promises; here one that no schema names is an error, so that none goes
undescribed. A document is of the kind whose required fields it has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

SCHEMAS = Path(__file__).parents[1] / "docs" / "schema"


def closed(schema: Any) -> Any:
    """The schema without room for what it does not name."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    return {"additionalProperties": False, **inner} if "required" in inner else inner


@cache
def schemas() -> Mapping[str, dict[str, Any]]:
    """By kind; ``common`` is what the others share."""
    return {path.stem: closed(json.loads(path.read_text(encoding="utf-8"))) for path in SCHEMAS.glob("*.json")}


@cache
def validator(kind: str) -> Draft202012Validator:
    known: Registry[Any] = Registry().with_resources(
        (f"{name}.json", Resource.from_contents(schema)) for name, schema in schemas().items()
    )
    return Draft202012Validator(schemas()[kind], registry=known)


def kind_of(document: Mapping[str, Any]) -> str | None:
    """The kind with the most required fields that it has, None where it has those of no kind."""
    required = {kind: schema["required"] for kind, schema in schemas().items() if kind != "common"}
    fitting = [kind for kind, fields in required.items() if document.keys() >= set(fields)]
    return max(fitting, key=lambda kind: len(required[kind]), default=None)


def wrong(document: Any) -> list[str]:
    """What is wrong with it, one line each."""
    kind = kind_of(document) if isinstance(document, dict) else None
    if kind is None:
        return [f"of no kind: {json.dumps(document)[:200]}"]
    return [f"{kind}: {error.json_path}: {error.message}" for error in validator(kind).iter_errors(document)]


def documents(text: str) -> Iterator[Any]:
    """One after the other, whatever white space is between them. Raises ValueError."""
    decoder, rest = json.JSONDecoder(), text.lstrip()
    while rest:
        document, end = decoder.raw_decode(rest)
        yield document
        rest = rest[end:].lstrip()
