"""What settings are made of."""

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.fields import FieldInfo

NUMBER = r"(?:\d+\.?\d*|\.\d+)"
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(value: object) -> object:
    """`10m`, `15s`, `500ms` or a bare number of seconds."""
    if isinstance(value, str) and (
        match := re.fullmatch(rf"({NUMBER})\s*(ms|s|m|h|d)", value.strip())
    ):
        return float(match[1]) * UNITS[match[2]]
    return value


def written(duration: float) -> str:
    """Seconds as a person writes them."""
    for unit in ("d", "h", "m", "s"):
        if duration >= UNITS[unit] and duration % UNITS[unit] == 0:
            return f"{duration / UNITS[unit]:g}{unit}"
    return f"{duration / UNITS['ms']:g}ms"


WRITTEN = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": rf"^{NUMBER}\s*(ms|s|m|h|d)$"},
    ]
}
Duration = Annotated[
    float,
    BeforeValidator(seconds),
    Field(gt=0, allow_inf_nan=False),
    WithJsonSchema(WRITTEN, mode="validation"),
]


class Section(BaseModel):
    """A part of the tree; an unknown key in it stops the start."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def section_of(field: FieldInfo) -> type[Section] | None:
    """The section that a setting is; None for one with a value of its own."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def is_duration(field: FieldInfo) -> bool:
    return any(
        isinstance(part, BeforeValidator) and part.func is seconds for part in field.metadata
    )
