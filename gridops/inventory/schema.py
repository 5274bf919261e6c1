"""The inventory's JSON Schema, for editors that check and complete YAML."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from gridops.inventory.settings import NodeSettings, Settings

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NAMES = 'A name or a node set: alpha, "gpu[01-16]".'
_REFERENCE_SCHEMA = {
    "type": "string",
    "pattern": r"\$\{",
    "description": "${VAR} or ${VAR:-default}",
}
_NULL = {"type": "null"}


def schema() -> dict[str, Any]:
    """The JSON Schema of an inventory file, in the 2020-12 dialect.

    It accepts all that `gridops.inventory.load` accepts.

    What takes more than looking at one value is left to `load`: duplicates, hosts and nodes in
    equal number, the head among the nodes.
    """
    _, found = models_json_schema([(Settings, "validation"), (NodeSettings, "validation")])
    definitions = {name: _relax(part) for name, part in found["$defs"].items()}
    top = definitions.pop("Settings")
    properties = {"nodes": _nodes()}
    for name, part in top["properties"].items():
        about = {"description": Settings.model_fields[name].description}
        kind = {key: value for key, value in part.items() if key not in ("default", "description")}
        properties[name] = {**about, "anyOf": [kind, _NULL]}  # empty is as good as absent
    return {
        "$schema": _DIALECT,
        "title": "gridops inventory",
        "type": "object",
        "properties": properties,
        "required": ["nodes"],
        "additionalProperties": False,
        "$defs": {**definitions, "Reference": _REFERENCE_SCHEMA},
    }


def _nodes() -> dict[str, Any]:
    entry = {"anyOf": [{"$ref": "#/$defs/NodeSettings"}, _NULL]}
    name = {"type": ["string", "number", "boolean"], "description": _NAMES}
    return {
        "description": "Names (or node sets): a list, or a mapping to the settings of each.",
        "anyOf": [
            {"type": "object", "minProperties": 1, "additionalProperties": entry},
            {"type": "array", "minItems": 1, "items": name},
            name,
        ],
    }


def _relax(part: Any) -> Any:
    """`part` without pydantic's titles, and with ${VAR} allowed for numbers, booleans, choices."""
    if isinstance(part, list):
        return [_relax(item) for item in part]
    if not isinstance(part, dict):
        return part
    clean = {
        key: _relax(value) for key, value in part.items() if key not in ("title", "properties")
    }
    if "properties" in part:
        clean["properties"] = {key: _relax(value) for key, value in part["properties"].items()}
    if clean.get("type") in ("integer", "number", "boolean") or "enum" in clean:
        about = {key: clean.pop(key) for key in ("description", "default") if key in clean}
        return {**about, "anyOf": [clean, {"$ref": "#/$defs/Reference"}]}
    return clean
