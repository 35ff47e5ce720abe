"""Models."""

from typing import Literal

from pydantic import Field

from threadloom.types.shared import Sent, UnixSeconds, is_none


class Model(Sent):
    """A model that answers; `description` is Threadloom's own."""

    id: str
    object: Literal["model"] = "model"
    created: UnixSeconds
    owned_by: str
    description: str | None = Field(default=None, exclude_if=is_none)


class ModelList(Sent):
    """All models."""

    object: Literal["list"] = "list"
    data: list[Model]
