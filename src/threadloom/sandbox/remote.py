"""Sandboxes that a runner holds: what workers use that have no engine. The runner is `threadloom sandbox serve`."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from threadloom.config import CodeInterpreter
from threadloom.sandbox.channel import Channel
from threadloom.sandbox.frames import packed
from threadloom.sandbox.kernel import Kernel
from threadloom.sandbox.session import SandboxLost, SandboxUnavailable
from threadloom.sandbox.visits import (
    ALIVE,
    BUFFER,
    LEAVE,
    QUIET_SECONDS,
    Garbled,
    Line,
    address_of,
    beat,
    line_of,
    next_line,
)

CONNECT_SECONDS = 5.0
CLOSE_SECONDS = 2.0


@dataclass(frozen=True)
class Visit:
    """A connection whose hello was answered."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    answer: Line


class RemoteSandbox:
    """Sessions belong to the runner: they outlive this process, and another one may go on in them."""

    def __init__(self, settings: CodeInterpreter) -> None:
        self._settings = settings
        self._url = settings.runner.url or ""
        token = settings.runner.token
        self._token = token.get_secret_value() if token else None
        self._used = set[str]()

    @asynccontextmanager
    async def session(self, key: str) -> AsyncGenerator[Kernel]:
        async with self._visit(op="session", key=key) as visit:
            self._used.add(key)
            channel = Channel(visit.reader, visit.writer)
            try:
                await channel.ready()
            except SandboxLost as error:
                raise SandboxUnavailable(str(error)) from None
            try:
                yield Kernel(channel, self._settings, fresh=visit.answer.get("fresh") is True)
            finally:
                if channel.lost is None:
                    await leave(visit)

    async def keys(self) -> Sequence[str]:
        """Those of this process's that the runner keeps: others may be of another server's threads. Raises SandboxUnavailable."""
        used = set(self._used)
        async with self._visit(op="keys") as visit:
            keys = visit.answer.get("keys")
            kept = [str(key) for key in keys] if isinstance(keys, list) else []
        self._used -= used.difference(kept)
        return [key for key in kept if key in self._used]

    async def end(self, key: str) -> None:
        """Raises SandboxUnavailable."""
        async with self._visit(op="end", key=key):
            pass

    async def close(self) -> None:
        """Nothing is this process's own."""

    @asynccontextmanager
    async def _visit(self, **hello: str) -> AsyncGenerator[Visit]:
        """Raises SandboxUnavailable."""
        reader, writer = await self._connect()
        beating = asyncio.create_task(beat(writer, packed(ALIVE)))
        try:
            try:
                writer.write(line_of({**hello, "token": self._token}))
                answer = await next_line(reader, QUIET_SECONDS)
            except (OSError, Garbled) as error:
                raise self._unavailable(error) from None
            if "error" in answer:
                raise SandboxUnavailable(str(answer["error"]))
            yield Visit(reader, writer, answer)
        finally:
            beating.cancel()
            await close(writer)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            address = address_of(self._url)
            async with asyncio.timeout(CONNECT_SECONDS):
                if isinstance(address, str):
                    return await asyncio.open_unix_connection(address, limit=BUFFER)
                return await asyncio.open_connection(*address, limit=BUFFER)
        except (OSError, ValueError) as error:
            raise self._unavailable(error) from None

    def _unavailable(self, error: Exception) -> SandboxUnavailable:
        why = str(error) or "it gave no answer in time"
        return SandboxUnavailable(f"The sandbox runner at {self._url} does not answer: {why}.")


async def leave(visit: Visit) -> None:
    """Say so, and wait until the runner has heard it: then the next visitor can have the key."""
    visit.writer.write(packed(LEAVE))
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(CLOSE_SECONDS):
            while await visit.reader.read(BUFFER):
                pass


async def close(writer: asyncio.StreamWriter) -> None:
    """Send what is still to be sent, if the other side takes it."""
    writer.close()
    with suppress(OSError):
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await writer.wait_closed()
        except TimeoutError:
            writer.transport.abort()
