"""Assistants."""

from typing import Annotated, Literal

from pydantic import Field

from threadloom.types.shared import Metadata, Received, Sent, UnixSeconds, id_of
from threadloom.types.tools import (
    ReasoningEffort,
    ResponseFormat,
    ResponseFormatCreate,
    Temperature,
    Tool,
    ToolResources,
    ToolResourcesCreate,
    ToolResourcesModify,
    TopP,
)

AssistantId = Annotated[str, id_of("asst")]
Instructions = Annotated[str, Field(max_length=256_000)]
Tools = Annotated[list[Tool], Field(max_length=128)]


class AssistantModify(Received):
    """POST /assistants/{id}: only the given keys change."""

    model: Annotated[str, Field(min_length=1)] | None = None
    name: Annotated[str, Field(max_length=256)] | None = None
    description: Annotated[str, Field(max_length=512)] | None = None
    instructions: Instructions | None = None
    tools: Tools | None = None
    tool_resources: ToolResourcesModify | None = None
    metadata: Metadata | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    response_format: ResponseFormatCreate | None = None
    reasoning_effort: ReasoningEffort | None = None


class AssistantCreate(AssistantModify):
    """POST /assistants."""

    model: Annotated[str, Field(min_length=1)]  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    tool_resources: ToolResourcesCreate | None = None  # pyright: ignore[reportIncompatibleVariableOverride]


class Assistant(Sent):
    """An assistant."""

    id: str
    object: Literal["assistant"] = "assistant"
    created_at: UnixSeconds
    name: str | None
    description: str | None
    model: str
    instructions: str | None
    tools: list[Tool]
    top_p: float | None
    temperature: float | None
    reasoning_effort: ReasoningEffort | None
    tool_resources: ToolResources
    metadata: Metadata = Field(validation_alias="metadata_")
    response_format: ResponseFormat
