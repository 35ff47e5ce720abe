"""Run steps: the journal of a run."""

from typing import Annotated, Literal

from pydantic import Field

from threadloom.types.runs import CalledFunction, LastError, RunUsage
from threadloom.types.shared import Echoed, JsonObject, Metadata, Sent, UnixSeconds

RunStepStatus = Literal["in_progress", "completed", "cancelled", "failed", "expired"]
RunStepType = Literal["message_creation", "tool_calls"]


class CreatedMessage(Echoed):
    """The message that a step writes."""

    message_id: str


class MessageCreationDetails(Echoed):
    """A step that writes a message."""

    type: Literal["message_creation"]
    message_creation: CreatedMessage


class AnsweredFunction(CalledFunction):
    """A function call and what the client answered."""

    output: str | None


class FunctionToolCall(Echoed):
    """A call of the client's function."""

    id: str
    type: Literal["function"]
    function: AnsweredFunction


class CodeInterpreterCall(Echoed):
    """Code and what it printed and drew."""

    input: str
    outputs: list[JsonObject]


class CodeInterpreterToolCall(Echoed):
    """A call of the code interpreter."""

    id: str
    type: Literal["code_interpreter"]
    code_interpreter: CodeInterpreterCall


class FileSearchCall(Echoed):
    """A search and what it found."""

    ranking_options: JsonObject
    results: list[JsonObject]


class FileSearchToolCall(Echoed):
    """A call of file search."""

    id: str
    type: Literal["file_search"]
    file_search: FileSearchCall


StepToolCall = Annotated[
    FunctionToolCall | CodeInterpreterToolCall | FileSearchToolCall, Field(discriminator="type")
]


class ToolCallsDetails(Echoed):
    """A step that calls tools."""

    type: Literal["tool_calls"]
    tool_calls: list[StepToolCall]


StepDetails = Annotated[MessageCreationDetails | ToolCallsDetails, Field(discriminator="type")]


class RecordedCall(CalledFunction):
    """A tool call as the model wrote it; kept, not sent."""

    id: str


class RunStep(Sent):
    """A step of a run."""

    id: str
    object: Literal["thread.run.step"] = "thread.run.step"
    created_at: UnixSeconds
    run_id: str
    assistant_id: str
    thread_id: str
    type: RunStepType
    status: RunStepStatus
    cancelled_at: UnixSeconds | None
    completed_at: UnixSeconds | None
    expires_at: UnixSeconds | None
    expired_at: UnixSeconds | None
    failed_at: UnixSeconds | None
    last_error: LastError | None
    step_details: StepDetails
    metadata: Metadata | None = Field(validation_alias="metadata_")
    usage: RunUsage | None
