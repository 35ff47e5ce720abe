"""A driver whose strings a test pulls."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Self

from threadloom.config import CodeInterpreter
from threadloom.sandbox.channel import Channel
from threadloom.sandbox.frames import Data, Frame, FrameReader, Message, Value, packed
from threadloom.sandbox.kernel import Kernel

SETTINGS = CodeInterpreter(max_output=256, max_pictures=2, max_files=5, disk=1024**2)


class Puppet:
    """The driver's end of two streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._frames = FrameReader(reader)
        self._writer = writer

    @classmethod
    async def of(cls, end: socket.socket) -> Self:
        return cls(*await asyncio.open_connection(sock=end))

    def say(self, event: str, id_: str | None = None, **fields: Value) -> None:
        self._writer.write(packed({"ev": event, **({"id": id_} if id_ else {}), **fields}))

    def give(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._writer.write(packed(Data(piece)))

    def write(self, content: bytes) -> None:
        self._writer.write(content)

    async def hear(self) -> Frame:
        return await self._frames.next()

    async def asked(self, op: str) -> str:
        """Wait for this request; gives its id."""
        request = await self.request()
        assert request["op"] == op
        return str(request["id"])

    async def request(self) -> Message:
        frame = await self.hear()
        assert not isinstance(frame, Data)
        return frame

    async def received(self, size: int) -> bytes:
        content = b""
        while len(content) < size:
            frame = await self.hear()
            assert isinstance(frame, Data)
            content += frame.content
        return content

    def done(self, id_: str, **fields: Value) -> None:
        usual: dict[str, Value] = {
            "ending": "ok",
            "state_lost": False,
            "cut": 0,
            "files": [],
            "ms": 1,
        }
        self.say("done", id_, **(usual | fields))

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def puppet_and_kernel(
    settings: CodeInterpreter = SETTINGS, *, version: int = 1
) -> AsyncGenerator[tuple[Puppet, Kernel]]:
    """A driver that has said it is ready, and the kernel that speaks with it."""
    ours, theirs = socket.socketpair()
    puppet = await Puppet.of(theirs)
    reader, writer = await asyncio.open_connection(sock=ours)
    kernel = Kernel(Channel(reader, writer), settings)
    puppet.say("ready", v=version)
    try:
        await kernel.channel.ready()
        yield puppet, kernel
    finally:
        kernel.channel.close()
        puppet.close()
        await asyncio.sleep(0)
