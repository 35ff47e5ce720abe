"""Threads."""

from typing import Literal

from pydantic import Field

from threadloom.types.messages import Messages
from threadloom.types.shared import Metadata, Received, Sent, UnixSeconds
from threadloom.types.tools import ToolResources, ToolResourcesCreate, ToolResourcesModify


class ThreadModify(Received):
    """POST /threads/{id}."""

    tool_resources: ToolResourcesModify | None = None
    metadata: Metadata | None = None


class ThreadCreate(ThreadModify):
    """POST /threads."""

    tool_resources: ToolResourcesCreate | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    messages: Messages | None = None


class Thread(Sent):
    """A thread."""

    id: str
    object: Literal["thread"] = "thread"
    created_at: UnixSeconds
    tool_resources: ToolResources
    metadata: Metadata = Field(validation_alias="metadata_")
