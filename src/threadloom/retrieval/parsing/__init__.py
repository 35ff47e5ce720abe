"""Any document in, chunks of text out; the parsers run in processes of their own, with limits."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from threadloom.types.vector_stores import FileErrorCode, StaticChunking


@dataclass(frozen=True)
class Chunk:
    """A piece of a document's text; `start` and `end` are its place in that text, in characters.

    `page` counts from 1 and `heading` is the nearest one above, where the format has them. `terms` are packed for lexical
    search (`retrieval.terms`).
    """

    text: str
    start: int
    end: int
    page: int | None
    heading: str | None
    terms: bytes


class UnreadableFile(Exception):
    """The document cannot be taken in; the message tells a person what to do."""

    def __init__(self, code: FileErrorCode, message: str) -> None:
        super().__init__(message)
        self.code: FileErrorCode = code
        self.message = message


class ParserUnavailable(Exception):
    """No parser could be started, whatever the document: later one may. The message is for a person."""


@dataclass(frozen=True)
class Parsed:
    """Some of a document's chunks, in order, and how far through the document they reach (0 to 1)."""

    chunks: list[Chunk]
    progress: float


class Parser(Protocol):
    """Reads documents."""

    def parse(self, path: Path, filename: str, chunking: StaticChunking) -> AsyncGenerator[Parsed]:
        """The document's chunks, some at a time. The same document always gives the same chunks. Raises UnreadableFile and ParserUnavailable."""
        ...

    async def close(self) -> None: ...
