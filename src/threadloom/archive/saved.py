"""Objects as people saved them: checked like what clients send, but what is unknown is ignored and what is missing has its default."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
)

from threadloom.db.rows import (
    AssistantRow,
    FileRow,
    MessageRow,
    RunRow,
    RunStepRow,
    ThreadRow,
    VectorStoreFileRow,
    VectorStoreRow,
)
from threadloom.types.assistants import Instructions, Tools
from threadloom.types.messages import (
    Attachment,
    Content,
    ImageFileContent,
    IncompleteDetails,
    Role,
    TextContent,
)
from threadloom.types.shared import Metadata, fault, null_is
from threadloom.types.tools import (
    ReasoningEffort,
    ResponseFormatCreate,
    Temperature,
    ToolResources,
    TopP,
    stored_option,
)
from threadloom.types.vector_stores import (
    Attributes,
)

LAST_SECOND = 2**40
REST = "[A-Za-z0-9_-]{1,120}$"
Time = Annotated[int, Field(ge=0, le=LAST_SECOND)]
AssistantId = Annotated[str, Field(pattern=f"^asst_{REST}")]
ThreadId = Annotated[str, Field(pattern=f"^thread_{REST}")]
MessageId = Annotated[str, Field(pattern=f"^msg_{REST}")]
RunId = Annotated[str, Field(pattern=f"^run_{REST}")]
StepId = Annotated[str, Field(pattern=f"^step_{REST}")]
StoreId = Annotated[str, Field(pattern=f"^vs_{REST}")]
FileId = Annotated[str, Field(pattern=f"^(file[-_]|assistant-){REST}")]
"""Azure's begin with `assistant-`."""
MADE_ID = re.compile("(?:file[-_]|assistant-)(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{16,}")
"""A file's id as servers make them, and no word that people call a folder by."""
AnyId = Annotated[str, Field(max_length=128)]
"""An id that an object only names."""
Pairs = Annotated[Metadata, null_is({})]
Kept = Annotated[Attributes, null_is({})]


def readable(content: list[Content]) -> list[Content]:
    """Annotations are kept as they are; these parts of them are relied on."""
    for part in content:
        for one in part.text.annotations if isinstance(part, TextContent) else ():
            start, end = one.get("start_index"), one.get("end_index")
            named = isinstance(one.get("type"), str) and isinstance(one.get("text"), str)
            if not (
                named and isinstance(start, int) and isinstance(end, int) and 0 <= start <= end
            ):
                raise fault("invalid_value", "an annotation has no type, text or place in the text")
    return content


SavedRow = (
    AssistantRow
    | ThreadRow
    | MessageRow
    | RunRow
    | RunStepRow
    | VectorStoreRow
    | VectorStoreFileRow
    | FileRow
)


class Saved(BaseModel):
    """An object of an archive. `plural` is what reports call its kind."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)
    kind: ClassVar[str]
    plural: ClassVar[str]
    row: ClassVar[type[SavedRow]]
    compared: ClassVar[frozenset[str]] = frozenset()
    """The attributes by which one that is there already is the same; all if empty."""

    id: str
    created_at: Time

    @property
    def key(self) -> str:
        """The id of its row."""
        return self.id

    @property
    def parent(self) -> str:
        """What it is part of, if anything."""
        return ""

    def values(self, now: float) -> dict[str, Any]:
        """The attributes of its row, but for the project."""
        raise NotImplementedError

    def named(self) -> Iterator[str]:
        """Ids of other objects."""
        yield from ()

    def refusal(self, now: int) -> str | None:
        """Why it is not to be imported, although it is valid."""
        del now


class SavedCodeInterpreter(BaseModel):
    """Files that code sees."""

    file_ids: Annotated[list[FileId], Field(max_length=20), null_is([])] = []


class SavedFileSearch(BaseModel):
    """Stores that file search looks into."""

    vector_store_ids: Annotated[list[StoreId], Field(max_length=1), null_is([])] = []


class SavedResources(BaseModel):
    """What tools may use."""

    code_interpreter: SavedCodeInterpreter | None = None
    file_search: SavedFileSearch | None = None

    def stored(self) -> ToolResources:
        return self.model_dump(exclude_none=True)

    def named(self) -> Iterator[str]:
        for part in self.stored().values():
            for ids in part.values():
                yield from ids


Resources = Annotated[SavedResources, null_is({})]


class SavedAssistant(Saved):
    """An assistant."""

    kind = "assistant"
    plural = "assistants"
    row = AssistantRow

    id: AssistantId
    name: Annotated[str, Field(max_length=256)] | None = None
    description: Annotated[str, Field(max_length=512)] | None = None
    model: Annotated[str, Field(min_length=1, max_length=512)]
    instructions: Instructions | None = None
    tools: Annotated[Tools, null_is([])] = []
    tool_resources: Resources = SavedResources()
    metadata: Pairs = {}
    temperature: Temperature | None = None
    top_p: TopP | None = None
    response_format: ResponseFormatCreate | None = None
    reasoning_effort: ReasoningEffort | None = None

    def values(self, now: float) -> dict[str, Any]:
        del now
        return {
            "id": self.id,
            "created_at": self.created_at,
            "name": self.name,
            "description": self.description,
            "model": self.model,
            "instructions": self.instructions,
            "tools": self.tools,
            "tool_resources": self.tool_resources.stored(),
            "metadata_": self.metadata,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "response_format": stored_option(self.response_format, "auto"),
            "reasoning_effort": self.reasoning_effort,
        }

    def named(self) -> Iterator[str]:
        return self.tool_resources.named()


class SavedThread(Saved):
    """A thread."""

    kind = "thread"
    plural = "threads"
    row = ThreadRow

    id: ThreadId
    tool_resources: Resources = SavedResources()
    metadata: Pairs = {}

    def values(self, now: float) -> dict[str, Any]:
        del now
        return {
            "id": self.id,
            "created_at": self.created_at,
            "tool_resources": self.tool_resources.stored(),
            "metadata_": self.metadata,
        }

    def named(self) -> Iterator[str]:
        return self.tool_resources.named()


class InSavedThread(Saved):
    """A part of a thread."""

    thread_id: ThreadId

    @property
    def parent(self) -> str:
        return self.thread_id


class SavedMessage(InSavedThread):
    """A message; lists of the hosted service have no `status`."""

    kind = "thread.message"
    plural = "messages"
    row = MessageRow

    id: MessageId
    assistant_id: AnyId | None = None
    run_id: AnyId | None = None
    status: Annotated[Literal["in_progress", "incomplete", "completed"], null_is("completed")] = (
        "completed"
    )
    incomplete_details: IncompleteDetails | None = None
    incomplete_at: Time | None = None
    completed_at: Time | None = None
    role: Role
    content: Annotated[list[Content], AfterValidator(readable)]
    attachments: Annotated[list[Attachment], null_is([])] = []
    metadata: Pairs = {}

    def values(self, now: float) -> dict[str, Any]:
        del now
        completed_at = self.completed_at
        if completed_at is None and self.status == "completed":
            completed_at = self.created_at
        return {
            "id": self.id,
            "thread_id": self.thread_id,
            "created_at": self.created_at,
            "assistant_id": self.assistant_id,
            "run_id": self.run_id,
            "status": self.status,
            "incomplete_details": self.incomplete_details,
            "incomplete_at": self.incomplete_at,
            "completed_at": completed_at,
            "role": self.role,
            "content": self.content,
            "attachments": self.attachments,
            "metadata_": self.metadata,
        }

    def named(self) -> Iterator[str]:
        yield from filter(None, (self.assistant_id, self.run_id))
        yield from (one.file_id for one in self.attachments if one.file_id is not None)
        for part in self.content:
            if isinstance(part, ImageFileContent):
                yield part.image_file.file_id

    def refusal(self, now: int) -> str | None:
        del now
        return "it was still being written" if self.status == "in_progress" else None
