"""Sandboxes that are containers."""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import structlog

from threadloom.clock import Clock, SystemClock
from threadloom.config import CodeInterpreter
from threadloom.sandbox.channel import Channel
from threadloom.sandbox.chores import Chores, in_thread
from threadloom.sandbox.engine import Container, Engine
from threadloom.sandbox.kernel import Kernel
from threadloom.sandbox.pool import Launched
from threadloom.sandbox.session import SandboxLost, SandboxUnavailable

log = structlog.stdlib.get_logger()

BUFFER = 512 * 1024
HEAD = 8
OUTPUT = 1
MAX_ERRORS = 4096


class Docker:
    """Starts containers, attaches to the driver in them, and removes them.

    They end by themselves when this process does, even killed: the engine then closes their standard input, which the
    driver takes for its end, and removes them.
    """

    def __init__(self, settings: CodeInterpreter, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._engine = Engine(settings)
        self._chores = Chores()

    async def launch(self) -> Launched:
        starting = asyncio.ensure_future(in_thread(self._engine.start))
        try:
            started = await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._chores.add(self._abandon(starting))
            raise
        return await self._ready(*started)

    async def check(self) -> str | None:
        try:
            await in_thread(self._engine.check)
        except SandboxUnavailable as problem:
            return str(problem)
        return None

    async def containers(self) -> Sequence[Container]:
        """All sandboxes of this engine, whoever started them. Raises SandboxUnavailable."""
        return await in_thread(self._engine.containers)

    async def sweep(self) -> None:
        with suppress(SandboxUnavailable):
            now = self._clock.now()
            leftovers = [each.id for each in await self.containers() if each.is_leftover(now)]
            for container in leftovers:
                log.warning("leftover sandbox removed", container=container[:12])
            await asyncio.gather(*map(self.remove, leftovers))

    async def remove(self, container: str) -> None:
        """End it and all in it; it may be gone already."""
        with suppress(SandboxUnavailable):
            await in_thread(partial(self._engine.remove, container))

    async def close(self) -> None:
        await self._chores.done()
        await in_thread(self._engine.close)

    async def _ready(self, container: str, attached: socket.socket) -> Launched:
        try:
            reader, writer = await asyncio.open_connection(sock=attached, limit=BUFFER)
        except BaseException:
            attached.close()
            self._chores.add(self.remove(container))
            raise
        source = Demultiplexed(reader)
        channel = Channel(source, writer)
        close = partial(self._close, channel, container)
        try:
            await channel.ready()
        except BaseException as failure:
            self._chores.add(close())
            if not isinstance(failure, SandboxLost):
                raise
            said = source.errors.decode(errors="replace")
            log.warning("sandbox did not start", reason=str(failure), said=said)
            raise SandboxUnavailable(f"The sandbox did not start. {failure}") from None
        return Launched(Kernel(channel, self._settings), close)

    async def _close(self, channel: Channel, container: str) -> None:
        channel.close()
        await self.remove(container)

    async def _abandon(self, starting: asyncio.Future[tuple[str, socket.socket]]) -> None:
        with suppress(SandboxUnavailable):
            container, attached = await starting
            attached.close()
            await self.remove(container)


class Demultiplexed:
    """A container's standard output, taken out of the engine's stream of output and errors."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream
        self._output = bytearray()
        self._kind = 0
        self._left = 0
        self.errors = bytearray()
        """What the driver wrote to standard error, its first so many bytes."""

    async def readexactly(self, n: int, /) -> bytes:
        while len(self._output) < n:
            await self._read()
        taken = bytes(self._output[:n])
        del self._output[:n]
        return taken

    async def _read(self) -> None:
        if not self._left:
            head = await self._stream.readexactly(HEAD)
            self._kind, self._left = head[0], int.from_bytes(head[4:])
            return
        piece = await self._stream.read(min(self._left, BUFFER))
        if not piece:
            raise asyncio.IncompleteReadError(piece, self._left)
        self._left -= len(piece)
        if self._kind == OUTPUT:
            self._output += piece
        elif len(self.errors) < MAX_ERRORS:
            self.errors += piece[: MAX_ERRORS - len(self.errors)]
