"""The JSON Schema of the configuration file, for editors."""

from __future__ import annotations

from typing import Any

from exporter.config.settings import SECTIONS, Config

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Give the JSON Schema of the file, in the file's own keys, with defaults spelled as in the file."""
    schema = Config.model_json_schema(by_alias=True)
    for section in SECTIONS.values():
        properties = schema["$defs"][section.__name__]["properties"]
        for key, default in section().model_dump(mode="json", by_alias=True).items():
            properties[key]["default"] = default
    return {"$schema": _DIALECT, **schema, "title": "octopus-exporter"}
