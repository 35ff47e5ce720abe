"""Runs."""

from typing import Annotated, Literal

from pydantic import Field

from threadloom.types.assistants import AssistantId, Instructions, Tools
from threadloom.types.messages import Messages
from threadloom.types.shared import (
    MAX_INTEGER,
    Echoed,
    JsonObject,
    Metadata,
    Received,
    Sent,
    UnixSeconds,
)
from threadloom.types.threads import ThreadCreate
from threadloom.types.tools import (
    ReasoningEffort,
    ResponseFormat,
    ResponseFormatCreate,
    Temperature,
    Tool,
    ToolChoice,
    ToolChoiceCreate,
    ToolResources,
    ToolResourcesModify,
    TopP,
)

RunStatus = Literal[
    "queued",
    "in_progress",
    "requires_action",
    "cancelling",
    "cancelled",
    "failed",
    "completed",
    "incomplete",
    "expired",
]
LastErrorCode = Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
Budget = Literal["max_completion_tokens", "max_prompt_tokens"]


class TruncationStrategy(Echoed):
    """How a long thread is shortened for the model."""

    type: Literal["auto", "last_messages"]
    last_messages: Annotated[int, Field(ge=1, le=MAX_INTEGER)] | None = None


class RunOptions(Received):
    """What a run may override of its assistant."""

    assistant_id: AssistantId
    model: Annotated[str, Field(min_length=1)] | None = None
    instructions: Instructions | None = None
    tools: Tools | None = None
    metadata: Metadata | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    stream: bool | None = None
    max_prompt_tokens: Annotated[int, Field(ge=256, le=MAX_INTEGER)] | None = None
    # The hosted service accepted 16 here, whatever its schema said.
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_INTEGER)] | None = None
    truncation_strategy: TruncationStrategy | None = None
    tool_choice: ToolChoiceCreate | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormatCreate | None = None
    reasoning_effort: ReasoningEffort | None = None


class RunCreate(RunOptions):
    """POST /threads/{id}/runs."""

    additional_instructions: Instructions | None = None
    additional_messages: Messages | None = None


class ThreadAndRunCreate(RunOptions):
    """POST /threads/runs."""

    thread: ThreadCreate | None = None
    tool_resources: ToolResourcesModify | None = None


class RunModify(Received):
    """POST /threads/{id}/runs/{id}."""

    metadata: Metadata | None = None


class ToolOutput(Received):
    """The answer to one call."""

    tool_call_id: str | None = None
    output: str | None = None


class SubmitToolOutputs(Received):
    """POST /threads/{id}/runs/{id}/submit_tool_outputs."""

    tool_outputs: list[ToolOutput]
    stream: bool | None = None


class CalledFunction(Echoed):
    """A function and the model's raw arguments for it."""

    name: str
    arguments: str


class RequiredToolCall(Echoed):
    """A call that waits for the client."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class RequiredToolCalls(Echoed):
    """The calls that wait for the client."""

    tool_calls: list[RequiredToolCall]


class RequiredAction(Echoed):
    """What the client has to do before the run goes on."""

    type: Literal["submit_tool_outputs"]
    submit_tool_outputs: RequiredToolCalls


class LastError(Echoed):
    """Why a run failed."""

    code: LastErrorCode
    message: str


class RunIncompleteDetails(Echoed):
    """Which budget was spent."""

    reason: Budget


class PromptTokenDetails(Echoed):
    """Parts of the prompt's tokens."""

    cached_tokens: int = 0


class CompletionTokensDetails(Echoed):
    """Parts of the answer's tokens."""

    reasoning_tokens: int = 0


class RunUsage(Echoed):
    """Tokens; `prompt_token_details` is spelt as the hosted service spelt it."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_token_details: PromptTokenDetails = PromptTokenDetails()
    completion_tokens_details: CompletionTokensDetails = CompletionTokensDetails()


class Run(Sent):
    """A run."""

    id: str
    object: Literal["thread.run"] = "thread.run"
    created_at: UnixSeconds
    assistant_id: str
    thread_id: str
    status: RunStatus
    started_at: UnixSeconds | None
    expires_at: UnixSeconds | None
    cancelled_at: UnixSeconds | None
    failed_at: UnixSeconds | None
    completed_at: UnixSeconds | None
    required_action: RequiredAction | None
    last_error: LastError | None
    model: str
    instructions: str
    tools: list[Tool]
    tool_resources: JsonObject | ToolResources
    metadata: Metadata = Field(validation_alias="metadata_")
    temperature: float | None
    top_p: float | None
    reasoning_effort: ReasoningEffort | None
    max_completion_tokens: int | None
    max_prompt_tokens: int | None
    truncation_strategy: TruncationStrategy
    incomplete_details: RunIncompleteDetails | None
    usage: RunUsage | None
    response_format: ResponseFormat
    tool_choice: ToolChoice
    parallel_tool_calls: bool
