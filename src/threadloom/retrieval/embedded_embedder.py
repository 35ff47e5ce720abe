"""The embedder that needs no key and no network: queries in this process, passages in a child of it (ADR 0007)."""

import asyncio
import sys
import threading
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Self

import orjson
import structlog

from threadloom.retrieval.embedder import EmbeddingError, Vector, Windows
from threadloom.retrieval.frames import Messages, frame
from threadloom.retrieval.minilm import MODEL, MiniLM
from threadloom.retrieval.minilm_process import read_answer

log = structlog.stdlib.get_logger()

COMMAND = (sys.executable, "-m", "threadloom.retrieval.minilm_process")
# Characters of texts in one request, about 30 windows: long enough to keep all processors busy, short enough to take turns.
PORTION = 32_000
TRIES = 3
IDLE = 60.0
# The child only gets the time that nobody else wants.
PATIENCE = 600.0
QUERIES = 2
# Measured: docs/retrieval.md.
WEIGHT = 0.6
LAST_LATIN = "\u024f"


class EmbeddedEmbedder:
    """all-MiniLM-L6-v2, with 8-bit weights; each passage has a vector for every 254 word pieces."""

    model = MODEL

    def __init__(self, *, idle: float = IDLE, command: Sequence[str] = COMMAND) -> None:
        self._network: MiniLM | None = None
        self._loading = threading.Lock()
        self._threads = ThreadPoolExecutor(QUERIES, thread_name_prefix="embed-query")
        self._process = PassageProcess(command, idle)

    def weight_for(self, query: str) -> float:
        """Less by the share of letters that are not Latin: the model never learned to read them."""
        letters = [character for character in query if character.isalpha()]
        latin = sum(character <= LAST_LATIN for character in letters)
        return WEIGHT * latin / len(letters) if letters else WEIGHT

    async def embed_passages(self, texts: Sequence[str]) -> list[Windows]:
        windows: list[Windows] = []
        for portion in portions(texts):
            windows += await self._process.ask(portion)
        return windows

    async def embed_query(self, text: str) -> Vector:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._query, text)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._process.stop()

    def _query(self, text: str) -> Vector:
        with self._loading:
            network = self._network = self._network or MiniLM()
        return network.query(text)


def portions(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in order, some at a time: one caller's next portion waits for the portions of all others."""
    portion: list[str] = []
    size = 0
    for text in texts:
        if portion and size + len(text) > PORTION:
            yield portion
            portion, size = [], 0
        portion.append(text)
        size += len(text) + 1
    if portion:
        yield portion


@dataclass(eq=False)
class Asked:
    """Texts of one caller, and their windows once they are there."""

    texts: Sequence[str]
    windows: list[Windows] | None = None

    @property
    def size(self) -> int:
        return sum(len(text) + 1 for text in self.texts)


class PassageProcess:
    """The child, which is started when it is needed, replaced when it dies and ended when nobody asks any more."""

    def __init__(self, command: Sequence[str], idle: float) -> None:
        self._command = command
        self._idle = idle
        self._turn = asyncio.Lock()
        self._waiting: list[Asked] = []
        self._child: Child | None = None
        self._leaving: asyncio.TimerHandle | None = None

    async def ask(self, texts: Sequence[str]) -> list[Windows]:
        """The windows of the texts, after those of whoever asked before. Raises EmbeddingError.

        Small requests that wait are sent together: one text alone would leave all processors but one without work.
        """
        asked = Asked(texts)
        self._waiting.append(asked)
        try:
            async with self._turn:
                if asked.windows is None:
                    await self._answer(self._together_with(asked))
        finally:
            if asked in self._waiting:
                self._waiting.remove(asked)
        assert asked.windows is not None
        return asked.windows

    def _together_with(self, first: Asked) -> list[Asked]:
        """What is answered next: this caller, and as many others as fit."""
        group, size = [first], first.size
        for other in self._waiting:
            if other is not first and size + other.size <= PORTION:
                group.append(other)
                size += other.size
        return group

    async def _answer(self, group: Sequence[Asked]) -> None:
        """Those that get no answer here still wait, and ask themselves."""
        texts = [text for asked in group for text in asked.texts]
        windows = iter(read_answer(await self._exchange(orjson.dumps(texts)), len(texts)))
        for asked in group:
            asked.windows = [*islice(windows, len(asked.texts))]
            if asked in self._waiting:  # it may have left meanwhile
                self._waiting.remove(asked)

    async def _exchange(self, request: bytes) -> bytes:
        for _ in range(TRIES):
            child = await self._awake()
            try:
                async with asyncio.timeout(PATIENCE):
                    return await child.exchange(request)
            except (OSError, asyncio.IncompleteReadError):
                log.warning("embedding process lost", code=child.process.returncode)
                await self.stop()
            finally:
                self._sleep_later()
        raise EmbeddingError("The embedding process ended unexpectedly; try again later.")

    async def stop(self) -> None:
        """End the child at once; a later request starts another."""
        if self._leaving is not None:
            self._leaving.cancel()
        if self._child is not None:
            child, self._child = self._child, None
            await child.stop()

    async def _awake(self) -> "Child":
        if self._leaving is not None:
            self._leaving.cancel()
        if self._child is None or self._child.is_leaving:
            await self.stop()
            self._child = await Child.start(self._command)
        return self._child

    def _sleep_later(self) -> None:
        if self._child is not None:
            loop = asyncio.get_running_loop()
            self._leaving = loop.call_later(self._idle, self._child.leave)


@dataclass
class Child:
    """A process that embeds. `unread` counts its answers to come, also to callers that left."""

    process: Process
    stdin: asyncio.StreamWriter
    messages: Messages
    unread: int = 0

    @classmethod
    async def start(cls, command: Sequence[str]) -> Self:
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        return cls(process, process.stdin, Messages(process.stdout))

    async def exchange(self, request: bytes) -> bytes:
        self.stdin.write(frame(request))
        self.unread += 1
        await self.stdin.drain()
        while True:
            message = await self.messages.next()
            self.unread -= 1
            if not self.unread:
                return message

    @property
    def is_leaving(self) -> bool:
        return self.stdin.is_closing() or self.process.returncode is not None

    def leave(self) -> None:
        """The child ends when its standard input does."""
        self.stdin.close()

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        self.stdin.close()
