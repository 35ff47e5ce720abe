"""Assistants, threads, messages and runs."""

from sqlalchemy import (
    ForeignKey,
    Index,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

from threadloom.db.columns import Json
from threadloom.db.rows.base import NEVER_AGAIN, Leased, Owned, Row, index_where, index_where_set
from threadloom.types.messages import Attachment, Content, IncompleteDetails, MessageStatus, Role
from threadloom.types.run_steps import RecordedCall, RunStepStatus, RunStepType, StepDetails
from threadloom.types.runs import (
    LastError,
    RequiredAction,
    RunIncompleteDetails,
    RunStatus,
    RunUsage,
    TruncationStrategy,
)
from threadloom.types.tools import (
    ReasoningEffort,
    ResponseFormat,
    Tool,
    ToolChoice,
    ToolResources,
)

ACTIVE: tuple[RunStatus, ...] = ("queued", "in_progress", "requires_action", "cancelling")


IS_ACTIVE = text(f"status IN ({', '.join(repr(status) for status in ACTIVE)})")


NAMES_FILES = text("CAST(tool_resources AS TEXT) LIKE '%file-%'")


class AssistantRow(Owned, Row):
    """An assistant."""

    __tablename__ = "assistants"
    __table_args__ = (
        Index(None, "project_id", "seq"),
        index_where(NAMES_FILES, "project_id"),
        NEVER_AGAIN,
    )
    noun = "assistant"

    name: Mapped[str | None]
    description: Mapped[str | None]
    model: Mapped[str]
    instructions: Mapped[str | None]
    tools: Mapped[list[Tool]] = mapped_column(Json(list[Tool]))
    tool_resources: Mapped[ToolResources] = mapped_column(Json(ToolResources))
    metadata_: Mapped[dict[str, str]] = mapped_column("metadata", Json(dict[str, str]))
    temperature: Mapped[float | None]
    top_p: Mapped[float | None]
    response_format: Mapped[ResponseFormat] = mapped_column(Json(ResponseFormat))
    reasoning_effort: Mapped[ReasoningEffort | None] = mapped_column(Text)


class ThreadRow(Owned, Row):
    """A thread."""

    __tablename__ = "threads"
    __table_args__ = (
        Index(None, "project_id", "seq"),
        index_where(NAMES_FILES, "project_id"),
        NEVER_AGAIN,
    )
    noun = "thread"

    tool_resources: Mapped[ToolResources] = mapped_column(Json(ToolResources))
    metadata_: Mapped[dict[str, str]] = mapped_column("metadata", Json(dict[str, str]))


class InThread(Owned):
    """A row that goes when its thread goes."""

    @declared_attr
    @classmethod
    def thread_id(cls) -> Mapped[str]:
        return mapped_column(Text, ForeignKey("threads.id", ondelete="CASCADE"))


class MessageRow(InThread, Row):
    """A message."""

    __tablename__ = "messages"
    __table_args__ = (Index(None, "thread_id", "seq"), Index(None, "run_id"), NEVER_AGAIN)
    noun = "message"

    assistant_id: Mapped[str | None]
    run_id: Mapped[str | None]
    status: Mapped[MessageStatus] = mapped_column(Text)
    incomplete_details: Mapped[IncompleteDetails | None] = mapped_column(Json(IncompleteDetails))
    incomplete_at: Mapped[int | None]
    completed_at: Mapped[int | None]
    role: Mapped[Role] = mapped_column(Text)
    content: Mapped[list[Content]] = mapped_column(Json(list[Content]))
    attachments: Mapped[list[Attachment]] = mapped_column(Json(list[Attachment]))
    metadata_: Mapped[dict[str, str]] = mapped_column("metadata", Json(dict[str, str]))


class RunRow(InThread, Leased, Row):
    """A run, and the queue: a run is due when a worker should look at it.

    `spent` is what its turns used so far (`usage` shows it at the end); `attempts` is how often it was taken up since it
    last got further; `kept_since` is when it ended, until its events are pruned.
    """

    __tablename__ = "runs"
    __table_args__ = (
        Index(None, "thread_id", "project_id", "seq"),
        Index(None, "project_id", "seq"),
        index_where(IS_ACTIVE, "project_id"),
        Index(
            "uq_runs_active",
            "thread_id",
            unique=True,
            sqlite_where=IS_ACTIVE,
            postgresql_where=IS_ACTIVE,
        ),
        index_where_set("due_at"),
        index_where_set("kept_since"),
        NEVER_AGAIN,
    )
    noun = "run"

    assistant_id: Mapped[str]
    status: Mapped[RunStatus] = mapped_column(Text)
    started_at: Mapped[int | None]
    expires_at: Mapped[int | None]
    cancelled_at: Mapped[int | None]
    failed_at: Mapped[int | None]
    completed_at: Mapped[int | None]
    required_action: Mapped[RequiredAction | None] = mapped_column(Json(RequiredAction))
    last_error: Mapped[LastError | None] = mapped_column(Json(LastError))
    model: Mapped[str]
    instructions: Mapped[str]
    tools: Mapped[list[Tool]] = mapped_column(Json(list[Tool]))
    tool_resources: Mapped[ToolResources] = mapped_column(Json(ToolResources))
    metadata_: Mapped[dict[str, str]] = mapped_column("metadata", Json(dict[str, str]))
    temperature: Mapped[float | None]
    top_p: Mapped[float | None]
    reasoning_effort: Mapped[ReasoningEffort | None] = mapped_column(Text)
    max_completion_tokens: Mapped[int | None]
    max_prompt_tokens: Mapped[int | None]
    truncation_strategy: Mapped[TruncationStrategy] = mapped_column(Json(TruncationStrategy))
    incomplete_details: Mapped[RunIncompleteDetails | None] = mapped_column(
        Json(RunIncompleteDetails)
    )
    usage: Mapped[RunUsage | None] = mapped_column(Json(RunUsage))
    response_format: Mapped[ResponseFormat] = mapped_column(Json(ResponseFormat))
    tool_choice: Mapped[ToolChoice] = mapped_column(Json(ToolChoice))
    parallel_tool_calls: Mapped[bool]

    key_id: Mapped[str | None]
    additional_instructions: Mapped[str | None]
    turns: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    spent: Mapped[RunUsage] = mapped_column(Json(RunUsage))
    kept_since: Mapped[float | None]


class RunStepRow(InThread, Row):
    """A step of a run, and the journal a crashed run is rebuilt from.

    `turn` counts the run's model turns. `calls` are that turn's tool calls (empty while the model still writes),
    `cost` what the turn used, `heard` what the model is told of each call, by call id.
    """

    __tablename__ = "run_steps"
    __table_args__ = (Index(None, "run_id", "seq"), Index(None, "thread_id"), NEVER_AGAIN)
    noun = "run step"

    run_id: Mapped[str]
    assistant_id: Mapped[str]
    type: Mapped[RunStepType] = mapped_column(Text)
    status: Mapped[RunStepStatus] = mapped_column(Text)
    cancelled_at: Mapped[int | None]
    completed_at: Mapped[int | None]
    expires_at: Mapped[int | None]
    expired_at: Mapped[int | None]
    failed_at: Mapped[int | None]
    last_error: Mapped[LastError | None] = mapped_column(Json(LastError))
    step_details: Mapped[StepDetails] = mapped_column(Json(StepDetails))
    metadata_: Mapped[dict[str, str]] = mapped_column("metadata", Json(dict[str, str]))
    usage: Mapped[RunUsage | None] = mapped_column(Json(RunUsage))

    turn: Mapped[int]
    calls: Mapped[list[RecordedCall]] = mapped_column(Json(list[RecordedCall]))
    cost: Mapped[RunUsage | None] = mapped_column(Json(RunUsage))
    heard: Mapped[dict[str, str]] = mapped_column(Json(dict[str, str]))


class EventRow(Row):
    """An event of a run's stream, as sent. `(epoch, seq)` is its place: a later holder has a higher epoch."""

    __tablename__ = "events"
    __table_args__ = ({"sqlite_with_rowid": False},)

    run_id: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    data: Mapped[str]
