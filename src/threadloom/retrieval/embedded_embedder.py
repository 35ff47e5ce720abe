"""The embedder that needs no key and no network: queries in this process, passages in a child of it (ADR 0007)."""

import asyncio
import os
import sys
import threading
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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
# Requests that the child has at once.
AHEAD = 2
TRIES = 3
IDLE = 60.0
# Chats and searches come first: with every processor busy the child gets what they leave, already while it starts.
NICENESS = 19
# So it only gets the time that nobody else wants.
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
    windows: asyncio.Future[list[Windows]]

    @property
    def size(self) -> int:
        return sum(len(text) + 1 for text in self.texts)


class PassageProcess:
    """The child, which is started when it is needed, replaced when it dies and ended when nobody asks any more."""

    def __init__(self, command: Sequence[str], idle: float) -> None:
        self._command = command
        self._idle = idle
        self._waiting: deque[Asked] = deque()
        self._exchanges: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        self._child: Child | None = None
        self._leaving: asyncio.TimerHandle | None = None

    async def ask(self, texts: Sequence[str]) -> list[Windows]:
        """The windows of the texts, after those of whoever asked before. Raises EmbeddingError.

        Small requests that wait are sent together: one text alone would leave all processors but one without work.
        """
        asked = Asked(texts, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        self._send()
        return await asked.windows

    def _send(self) -> None:
        """Keep the child busy: the next request lies there before its answer to the last one has come."""
        while self._waiting and len(self._exchanges) < AHEAD:
            exchange = asyncio.create_task(self._answer(self._next_group()))
            self._exchanges.add(exchange)
            exchange.add_done_callback(self._sent)

    def _sent(self, exchange: asyncio.Task[None]) -> None:
        self._exchanges.discard(exchange)
        self._send()

    def _next_group(self) -> list[Asked]:
        """Who is answered next: the first that waits, and as many after it as fit."""
        group = [self._waiting.popleft()]
        size = group[0].size
        while self._waiting and size + self._waiting[0].size <= PORTION:
            size += self._waiting[0].size
            group.append(self._waiting.popleft())
        return group

    async def _answer(self, group: Sequence[Asked]) -> None:
        asking = [asked for asked in group if not asked.windows.done()]  # others have left
        texts = [text for asked in asking for text in asked.texts]
        try:
            windows = iter(read_answer(await self._exchange(orjson.dumps(texts)), len(texts)))
        except asyncio.CancelledError:
            for asked in asking:
                asked.windows.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - it belongs to those who ask
            for asked in asking:
                if not asked.windows.done():
                    asked.windows.set_exception(error)
            return
        for asked in asking:
            theirs = [*islice(windows, len(asked.texts))]
            if not asked.windows.done():
                asked.windows.set_result(theirs)

    async def _exchange(self, request: bytes) -> bytes:
        for _ in range(TRIES):
            child = await self._awake()
            try:
                async with asyncio.timeout(PATIENCE):
                    return await child.exchange(request)
            except OSError:
                log.warning("embedding process lost", code=child.process.returncode)
                await self._replace(child)
            finally:
                self._sleep_later()
        raise EmbeddingError("The embedding process ended unexpectedly; try again later.")

    async def stop(self) -> None:
        """End the child at once; a later request starts another."""
        for exchange in self._exchanges:
            exchange.cancel()
        if self._leaving is not None:
            self._leaving.cancel()
        if self._child is not None:
            await self._replace(self._child)

    async def _replace(self, child: "Child") -> None:
        """End this child, unless somebody did already."""
        if self._child is child:
            self._child = None
            await child.stop()

    async def _awake(self) -> "Child":
        async with self._starting:
            if self._leaving is not None:
                self._leaving.cancel()
            if self._child is not None and self._child.is_leaving:
                await self._replace(self._child)
            if self._child is None:
                self._child = await Child.start(self._command)
            return self._child

    def _sleep_later(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
        if self._child is not None:
            loop = asyncio.get_running_loop()
            self._leaving = loop.call_later(self._idle, self._child.leave)


class Child:
    """A process that embeds, and the answers that it owes, in their order."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._stdin = process.stdin
        self._messages = Messages(process.stdout)
        self._owed: deque[asyncio.Future[bytes]] = deque()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, command: Sequence[str]) -> Self:
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        with suppress(ProcessLookupError):  # it ended at once: whoever asks it will see
            os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
        return cls(process)

    async def exchange(self, request: bytes) -> bytes:
        """Raises ConnectionError when the child is gone."""
        answer = asyncio.get_running_loop().create_future()
        self._owed.append(answer)
        if self._reading.done():
            raise ConnectionResetError
        self._stdin.write(frame(request))
        await self._stdin.drain()
        return await answer

    async def _read(self) -> None:
        try:
            while True:
                message = await self._messages.next()
                answer = self._owed.popleft()
                if not answer.done():  # its caller may have left
                    answer.set_result(message)
        except (asyncio.IncompleteReadError, OSError):
            for answer in self._owed:
                if not answer.done():
                    answer.set_exception(ConnectionResetError())

    @property
    def is_leaving(self) -> bool:
        return self._stdin.is_closing() or self.process.returncode is not None

    def leave(self) -> None:
        """The child ends when its standard input does."""
        self._stdin.close()

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reading
        self._stdin.close()
