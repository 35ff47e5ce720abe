"""A port in front of a server, which can be cut off, slow or out of order."""

import asyncio
from contextlib import suppress
from typing import Literal, Self

Mode = Literal["passes", "refuses", "hangs", "slow", "unavailable"]
UNAVAILABLE = b"HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
DELAY = 1.0
PIECE = 65_536


class Proxy:
    """Forwards connections to a port of this machine; a change of its mode breaks those that are open."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._mode: Mode = "passes"
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.become("refuses")

    def become(self, mode: Mode) -> None:
        self._mode = mode
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # one of the sides left
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match self._mode:
            case "refuses":
                return
            case "hangs":
                while await reader.read(PIECE):
                    pass
            case "unavailable":
                await reader.readuntil(b"\r\n\r\n")
                writer.write(UNAVAILABLE)
                await writer.drain()
            case _:
                await self._forward(reader, writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._open.add(back)
        try:
            copies = [self._copy(reader, back), self._copy(there, writer)]
            tasks = [asyncio.ensure_future(copy) for copy in copies]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._open.discard(back)
            back.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(PIECE):
                if self._mode == "slow":
                    await asyncio.sleep(DELAY)
                writer.write(piece)
                await writer.drain()
