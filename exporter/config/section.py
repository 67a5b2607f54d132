"""What all parts of the configuration share: no unknown keys, no changes, no secrets in errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


def _key(attribute: str) -> str:
    return attribute.removesuffix("_seconds")


class Section(BaseModel):
    """A mapping of the file. Attributes carry their unit (`interval_seconds`), keys do not (`interval`)."""

    model_config = ConfigDict(
        alias_generator=_key,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    @classmethod
    def keys(cls) -> dict[str, str]:
        """Give the keys as the file spells them, with what each is for."""
        return {_key(name): field.description or "a value" for name, field in cls.model_fields.items()}

    @model_validator(mode="before")
    @classmethod
    def _drop_empty_keys(cls, data: Any) -> Any:
        """Take a known key without a value as not given, as where all keys of a section are commented out."""
        if not isinstance(data, Mapping):
            return data
        known = cls.keys()
        return {key: value for key, value in data.items() if value is not None or key not in known}
