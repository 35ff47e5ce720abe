"""What tests ask of parsers."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from threadloom.retrieval.parsing import Chunk, Parser, UnreadableFile
from threadloom.types.vector_stores import StaticChunking

DEFAULT = StaticChunking()


@dataclass(frozen=True)
class Reader:
    """Parsers, and documents for them."""

    parsers: Parser

    async def chunks(self, path: Path, chunking: StaticChunking = DEFAULT) -> list[Chunk]:
        """All chunks of the file; like ingestion, from a copy whose name says nothing."""
        copy = path.with_name("document")
        with suppress(FileNotFoundError):  # what becomes of a missing file is tested too
            shutil.copyfile(path, copy)
        found: list[Chunk] = []
        async for parsed in self.parsers.parse(copy, path.name, chunking):
            found += parsed.chunks
        return found

    async def failure(self, path: Path) -> UnreadableFile:
        with pytest.raises(UnreadableFile) as caught:
            await self.chunks(path)
        return caught.value


def text_of(chunks: list[Chunk]) -> str:
    """The text of chunks that do not overlap, or of one."""
    return "\n".join(chunk.text for chunk in chunks)
