"""Messages of a thread, their content parts and their deltas."""

from typing import Annotated, Literal

from pydantic import Field

from threadloom.types.shared import (
    Echoed,
    JsonObject,
    Metadata,
    Received,
    Sent,
    UnixSeconds,
    is_none,
    null_is,
)
from threadloom.types.vector_stores import FileId

MAX_TEXT = 256_000
MAX_AT_ONCE = 10_000
"""Messages in one request: each is a row, and SQLite has one writer."""
Role = Literal["user", "assistant"]
MessageStatus = Literal["in_progress", "incomplete", "completed"]
IncompleteReason = Literal[
    "content_filter", "max_tokens", "run_cancelled", "run_expired", "run_failed"
]
Detail = Annotated[Literal["auto", "low", "high"], null_is("auto")]
Text = Annotated[str, Field(max_length=MAX_TEXT)]


class ImageFile(Echoed):
    """A picture by file id."""

    file_id: str
    detail: Detail = "auto"


class ImageFileContent(Echoed):
    """A picture by file id."""

    type: Literal["image_file"]
    image_file: ImageFile


class ImageUrl(Echoed):
    """A picture by address."""

    url: Annotated[str, Field(min_length=1)]
    detail: Detail = "auto"


class ImageUrlContent(Echoed):
    """A picture by address."""

    type: Literal["image_url"]
    image_url: ImageUrl


class TextContentCreate(Received):
    """Text as clients send it: a plain string."""

    type: Literal["text"]
    text: Text


class TextValue(Echoed):
    """Text as it is stored: with its annotations."""

    value: str
    annotations: list[JsonObject]


class TextContent(Echoed):
    """Text as it is stored: with its annotations."""

    type: Literal["text"]
    text: TextValue


class RefusalContent(Echoed):
    """What the model said in place of an answer."""

    type: Literal["refusal"]
    refusal: str


ContentCreate = Annotated[
    TextContentCreate | ImageUrlContent | ImageFileContent, Field(discriminator="type")
]
Content = Annotated[
    TextContent | ImageUrlContent | ImageFileContent | RefusalContent, Field(discriminator="type")
]


class AttachmentTool(Echoed):
    """What an attached file is for."""

    type: Literal["code_interpreter", "file_search"]


class Attachment(Echoed):
    """A file attached to a message."""

    file_id: str | None = Field(default=None, exclude_if=is_none)
    tools: list[AttachmentTool] | None = Field(default=None, exclude_if=is_none)


class AttachmentCreate(Attachment):
    """A file to be attached to a message."""

    file_id: FileId | None = Field(default=None, exclude_if=is_none)


class MessageCreate(Received):
    """POST /threads/{id}/messages."""

    role: Role
    content: Text | Annotated[list[ContentCreate], Field(min_length=1)]
    attachments: list[AttachmentCreate] | None = None
    metadata: Metadata | None = None

    def stored_content(self) -> list[Content]:
        """The content parts as the message shows them."""
        if isinstance(self.content, str):
            return [text_content(self.content)]
        return [
            text_content(part.text) if isinstance(part, TextContentCreate) else part
            for part in self.content
        ]


Messages = Annotated[list[MessageCreate], Field(max_length=MAX_AT_ONCE)]


class MessageModify(Received):
    """POST /threads/{id}/messages/{id}."""

    metadata: Metadata | None = None


class IncompleteDetails(Echoed):
    """Why a message was cut."""

    reason: IncompleteReason


class Message(Sent):
    """A message."""

    id: str
    object: Literal["thread.message"] = "thread.message"
    created_at: UnixSeconds
    assistant_id: str | None
    thread_id: str
    run_id: str | None
    status: MessageStatus
    incomplete_details: IncompleteDetails | None
    incomplete_at: UnixSeconds | None
    completed_at: UnixSeconds | None
    role: Role
    content: list[Content]
    attachments: list[Attachment]
    metadata: Metadata = Field(validation_alias="metadata_")


def text_content(value: str) -> TextContent:
    """A text part without annotations."""
    return TextContent(type="text", text=TextValue(value=value, annotations=[]))
