"""What a parser and its owner say to each other over pipes: JSON and bytes, with their lengths before them."""

import struct
from typing import Any, Literal, NotRequired, TypedDict, cast

import orjson

from threadloom.retrieval.parsing import Chunk
from threadloom.types.vector_stores import FileErrorCode

LENGTHS = struct.Struct(">II")
MAX_FRAME = 256 * 1024 * 1024

ChunkFields = tuple[int, int, int | None, str | None, str, int]


class Request(TypedDict):
    """Read this document."""

    path: str
    filename: str
    max_chunk_size_tokens: int
    chunk_overlap_tokens: int
    max_tokens: int
    tables: bool
    cpu_seconds: int


class Reply(TypedDict):
    """A parser is ready, or here are some chunks, or these were all, or why there are no more.

    With either end it says whether it is `worn` and should be replaced.
    """

    type: Literal["ready", "chunks", "failed", "done"]
    chunks: NotRequired[list[ChunkFields]]
    progress: NotRequired[float]
    code: NotRequired[FileErrorCode]
    message: NotRequired[str]
    fault: NotRequired[str]
    worn: NotRequired[bool]


def frame(content: Request | Reply, blob: bytes = b"") -> bytes:
    head = orjson.dumps(content)
    return LENGTHS.pack(len(head), len(blob)) + head + blob


def request_in(head: bytes) -> Request:
    return cast(Request, orjson.loads(head))  # written by `frame`, by our own side


def reply_in(head: bytes) -> Reply:
    """Raises ValueError when a parser, taken over by its document, sends what is no reply."""
    reply: Any = orjson.loads(head)
    if not isinstance(reply, dict) or "type" not in reply:
        raise ValueError("no reply")
    return cast(Reply, reply)


def pack_chunks(chunks: list[Chunk], progress: float) -> bytes:
    fields: list[ChunkFields] = [
        (c.start, c.end, c.page, c.heading, c.text, len(c.terms)) for c in chunks
    ]
    reply: Reply = {"type": "chunks", "chunks": fields, "progress": progress}
    return frame(reply, b"".join(c.terms for c in chunks))


def unpack_chunks(reply: Reply, blob: bytes) -> list[Chunk]:
    chunks: list[Chunk] = []
    at = 0
    for start, end, page, heading, text, length in reply.get("chunks", []):
        terms = blob[at : at + length]
        chunks.append(Chunk(text, start, end, page, heading, terms))
        at += length
    return chunks
