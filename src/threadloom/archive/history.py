"""Runs and their steps as people saved them: history, which nothing drives any more."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from threadloom.archive.saved import (
    AnyId,
    InSavedThread,
    Pairs,
    Resources,
    RunId,
    SavedResources,
    StepId,
    Time,
)
from threadloom.db.rows import RunRow, RunStepRow
from threadloom.types.assistants import Instructions, Tools
from threadloom.types.run_steps import (
    MessageCreationDetails,
    RunStepType,
    StepDetails,
)
from threadloom.types.runs import (
    LastError,
    RunIncompleteDetails,
    RunStatus,
    RunUsage,
    TruncationStrategy,
)
from threadloom.types.shared import MAX_INTEGER, JsonObject, null_is
from threadloom.types.tools import (
    RANKER,
    ReasoningEffort,
    ResponseFormatCreate,
    Temperature,
    Tool,
    ToolChoiceCreate,
    TopP,
    stored_option,
)

ENDED = frozenset({"cancelled", "failed", "completed", "incomplete", "expired"})
STEP_ENDED = ENDED - {"incomplete"}
AUTO = TruncationStrategy(type="auto")
NO_USAGE = RunUsage(prompt_tokens=0, completion_tokens=0, total_tokens=0)
RANKED: JsonObject = {"ranker": RANKER, "score_threshold": 0.0}
Budget = Annotated[int, Field(ge=0, le=MAX_INTEGER)]


class InHistory(InSavedThread):
    """What has come to an end."""

    usage: RunUsage | None = None

    @model_validator(mode="before")
    @classmethod
    def counted(cls, value: Any) -> Any:
        """Some parts of `usage` are null at servers that do not count them."""
        match value:
            case {"usage": {} as usage}:
                counted = {name: one for name, one in usage.items() if one is not None}
                return {**value, "usage": counted}
            case _:
                return value


class SavedRun(InHistory):
    """A run."""

    kind = "thread.run"
    plural = "runs"
    row = RunRow

    id: RunId
    assistant_id: AnyId
    status: RunStatus
    started_at: Time | None = None
    expires_at: Time | None = None
    cancelled_at: Time | None = None
    failed_at: Time | None = None
    completed_at: Time | None = None
    last_error: LastError | None = None
    model: Annotated[str, Field(max_length=512)]
    instructions: Annotated[Instructions, null_is("")] = ""
    tools: Annotated[Tools, null_is([])] = Field(default_factory=list[Tool])
    tool_resources: Resources = SavedResources()
    metadata: Pairs = Field(default_factory=dict[str, str])
    temperature: Temperature | None = None
    top_p: TopP | None = None
    reasoning_effort: ReasoningEffort | None = None
    max_completion_tokens: Budget | None = None
    max_prompt_tokens: Budget | None = None
    truncation_strategy: Annotated[TruncationStrategy, null_is(AUTO)] = AUTO
    incomplete_details: RunIncompleteDetails | None = None
    response_format: ResponseFormatCreate | None = None
    tool_choice: ToolChoiceCreate | None = None
    parallel_tool_calls: Annotated[bool, null_is(default=True)] = True

    def values(self, now: float) -> dict[str, Any]:
        del now
        plain = {name: getattr(self, name) for name in PLAIN}
        return plain | {
            "tool_resources": self.tool_resources.stored(),
            "metadata_": self.metadata,
            "response_format": stored_option(self.response_format, "auto"),
            "tool_choice": stored_option(self.tool_choice, "auto"),
            "spent": self.usage or NO_USAGE,
        }

    def named(self) -> Iterator[str]:
        yield self.assistant_id

    def refusal(self, now: int) -> str | None:
        del now
        return None if self.status in ENDED else f"it had not ended: its status was '{self.status}'"


PLAIN = (
    *("id", "thread_id", "created_at", "assistant_id", "status", "started_at", "expires_at"),
    *("cancelled_at", "failed_at", "completed_at", "last_error", "model", "instructions"),
    *("tools", "temperature", "top_p", "reasoning_effort", "max_completion_tokens"),
    *("max_prompt_tokens", "truncation_strategy", "incomplete_details", "usage"),
    "parallel_tool_calls",
)


class SavedStep(InHistory):
    """A step of a run."""

    kind = "thread.run.step"
    plural = "run steps"
    row = RunStepRow

    id: StepId
    run_id: RunId
    assistant_id: AnyId
    type: RunStepType
    status: Literal["in_progress", "completed", "cancelled", "failed", "expired"]
    cancelled_at: Time | None = None
    completed_at: Time | None = None
    expires_at: Time | None = None
    expired_at: Time | None = None
    failed_at: Time | None = None
    last_error: LastError | None = None
    step_details: StepDetails
    metadata: Pairs = Field(default_factory=dict[str, str])

    @model_validator(mode="before")
    @classmethod
    def whole_calls(cls, value: Any) -> Any:
        """Fill in what the hosted service left out of calls: searches without results, functions without an output."""
        match value:
            case {"step_details": {"type": "tool_calls", "tool_calls": [*calls]} as details}:
                whole = [whole_call(call) for call in calls]
                return {**value, "step_details": {**details, "tool_calls": whole}}
            case _:
                return value

    def values(self, now: float) -> dict[str, Any]:
        del now
        plain = {name: getattr(self, name) for name in STEP_PLAIN}
        return plain | {
            "metadata_": self.metadata,
            "turn": 0,
            "calls": [],
            "heard": {},
        }

    def named(self) -> Iterator[str]:
        yield from (self.run_id, self.assistant_id)
        if isinstance(self.step_details, MessageCreationDetails):
            yield self.step_details.message_creation.message_id

    def refusal(self, now: int) -> str | None:
        del now
        return None if self.status in STEP_ENDED else "it had not ended"


STEP_PLAIN = (
    *("id", "thread_id", "run_id", "created_at", "assistant_id", "type", "status", "cancelled_at"),
    *("completed_at", "expires_at", "expired_at", "failed_at", "last_error", "step_details"),
    "usage",
)


class WholeSearch(BaseModel):
    """What a search has that was saved without its results."""

    ranking_options: Annotated[dict[str, Any], null_is(RANKED)] = RANKED
    results: Annotated[list[dict[str, Any]], null_is([])] = []


def whole_call(call: Any) -> Any:
    match call:
        case {"type": "file_search"}:
            search = WholeSearch.model_validate(call.get("file_search") or {})
            return {**call, "file_search": search.model_dump()}
        case {"type": "function", "function": {} as function}:
            return {**call, "function": {"output": None, **function}}
        case {"type": "code_interpreter", "code_interpreter": {} as code}:
            return {**call, "code_interpreter": {"input": "", "outputs": [], **code}}
        case _:
            return call
