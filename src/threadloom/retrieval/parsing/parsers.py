"""The processes that read documents: a few, started when needed, kept for the next document, replaced when they break."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import structlog

from threadloom.config import FileSearch
from threadloom.retrieval.parsing import Parsed, ParserUnavailable, UnreadableFile
from threadloom.retrieval.parsing.child import Child, Fault
from threadloom.retrieval.parsing.formats import extension, supported
from threadloom.retrieval.parsing.frames import Request
from threadloom.types.vector_stores import StaticChunking

log = structlog.stdlib.get_logger()

IDLE = 60.0
# The kernel's limit is for a parser that nobody watches any more; the clock on the wall comes first.
SPARE_SECONDS = 5
NO_PARSER = (
    "The file could not be read because the server could not start a parser. Try again later."
)


class Parsers:
    """Implements `Parser`."""

    def __init__(self, settings: FileSearch, *, idle: float = IDLE) -> None:
        self._settings = settings
        self._idle_seconds = idle
        self._free = asyncio.Semaphore(settings.parsers)
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        self._closed = False

    async def parse(
        self, path: Path, filename: str, chunking: StaticChunking
    ) -> AsyncGenerator[Parsed]:
        """Leaving early, also by cancellation, ends the process that was reading."""
        if not supported(filename, tables=self._settings.tables):
            raise UnreadableFile("unsupported_file", refusal(filename))
        async with self._free:
            child = await self._take()
            finished = False
            try:
                async for parsed in child.read(
                    self._request(path, filename, chunking), self._settings.parser_timeout
                ):
                    yield parsed
                finished = True
            except UnreadableFile:
                finished = True
                raise
            except Fault as fault:
                if self._closed:
                    raise asyncio.CancelledError from None  # not the document's fault
                log.info("parser ended", reason=fault.reason)
                raise UnreadableFile("invalid_file", str(fault)) from None
            finally:
                await self._give_back(child, whole=finished)

    async def close(self) -> None:
        """Ends all processes; whoever waits for one that is at work is cancelled."""
        self._closed = True
        for child in [*self._all]:
            await self._end(child)

    async def _take(self) -> Child:
        while self._idle:
            child = self._idle.pop()
            child.wake()
            if child.alive:
                return child
            await self._end(child)
        try:
            child = await Child.start(self._settings.parser_memory)
        except (OSError, Fault) as error:
            log.exception("a parser cannot be started")
            raise ParserUnavailable(NO_PARSER) from error
        self._all.add(child)
        return child

    async def _give_back(self, child: Child, *, whole: bool) -> None:
        if whole and child.alive and not child.worn:
            self._idle.append(child)
            child.sleep(self._idle_seconds, self._forget)
        else:
            await self._end(child)

    def _forget(self, child: Child) -> None:
        """Was idle for long: it ends by itself when nobody can ask it any more."""
        self._idle.remove(child)
        self._all.discard(child)
        child.dismiss()

    async def _end(self, child: Child) -> None:
        self._all.discard(child)
        if child in self._idle:
            self._idle.remove(child)
        await child.kill()

    def _request(self, path: Path, filename: str, chunking: StaticChunking) -> Request:
        return Request(
            path=str(path.absolute()),
            filename=filename,
            max_chunk_size_tokens=chunking.max_chunk_size_tokens,
            chunk_overlap_tokens=chunking.chunk_overlap_tokens,
            max_tokens=self._settings.max_tokens,
            tables=self._settings.tables,
            cpu_seconds=int(self._settings.parser_timeout) + SPARE_SECONDS,
        )


def refusal(filename: str) -> str:
    return (
        f"Files with extensions [{extension(filename) or 'none'}] are not supported for retrieval."
    )
