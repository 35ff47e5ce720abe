"""A parser whose chunks are the lines of a text."""

from collections.abc import AsyncGenerator
from pathlib import Path

from threadloom.retrieval.parsing import Chunk, Parsed, UnreadableFile
from threadloom.retrieval.terms import pack_terms
from threadloom.types.vector_stores import StaticChunking


class LineParser:
    """Gives the lines of a document, `group` at a time; a line that says `!broken` cannot be read."""

    def __init__(self, group: int = 2) -> None:
        self._group = group
        self.parsed: list[str] = []

    async def parse(
        self, path: Path, filename: str, chunking: StaticChunking
    ) -> AsyncGenerator[Parsed]:
        del chunking
        self.parsed.append(filename)
        lines = path.read_text().splitlines()  # noqa: ASYNC240 - a small file of a test
        place = 0
        for first in range(0, len(lines), self._group):
            chunks: list[Chunk] = []
            for line in lines[first : first + self._group]:
                if line == "!broken":
                    raise UnreadableFile("invalid_file", "The file has a broken line. Mend it.")
                chunks.append(Chunk(line, place, place + len(line), None, None, pack_terms(line)))
                place += len(line) + 1
            yield Parsed(chunks, min((first + self._group) / len(lines), 1.0))

    async def close(self) -> None:
        pass
