"""A driver whose strings a test pulls."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Self

from threadloom.config import CodeInterpreter
from threadloom.sandbox.channel import Channel
from threadloom.sandbox.frames import Data, Frame, FrameReader, Message, Value, packed
from threadloom.sandbox.kernel import Kernel
from threadloom.sandbox.pool import Launched
from threadloom.sandbox.session import SandboxUnavailable

PNG = b"\x89PNG\r\n\x1a\n"
SETTINGS = CodeInterpreter(max_output=256, max_pictures=2, max_files=5, disk=1024**2)


class Puppet:
    """The driver's end of two streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._frames = FrameReader(reader)
        self._writer = writer
        self.requests: list[Message] = []
        self.running: str | None = None
        self.stubborn = False

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

    async def obey(self) -> None:
        """Do as a driver does, until the host lets go. A cell with `forever` in it ends when it is interrupted."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = await self.request()
                await self._answer(str(request["op"]), str(request["id"]), request)

    async def _answer(self, op: str, id_: str, request: Message) -> None:
        self.requests.append(request)
        match op:
            case "exec":
                self.say("log", id_, text="abc")
                self.say("picture", id_, media_type="image/png", size=len(PNG))
                self.give(PNG)
                await asyncio.sleep(0)
                if "forever" in str(request["code"]):
                    self.running = id_
                else:
                    self.done(id_)
            case "interrupt":
                if self.running == id_ and not self.stubborn:
                    self.running = None
                    self.done(id_, ending="interrupted")
            case "put":
                await self.received(6)
                self.say("put", id_)
            case "get":
                self.say("file", id_, size=6)
                await asyncio.sleep(0)
                self.give(b"abc", b"def")
                self.say("got", id_)
            case "claim":
                self.say("claimed", id_)
            case "ping":
                self.say("pong", id_, memory=1)
            case "files":
                self.say("files", id_, files=[{"path": "a", "size": 6}])
            case _:
                raise AssertionError(request)


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


class PuppetLauncher:
    """Starts puppets that obey. `problem` makes it fail, `gate` makes it wait, `slowness` are the seconds of a start."""

    def __init__(self, settings: CodeInterpreter) -> None:
        self._settings = settings
        self.puppets: list[Puppet] = []
        self.launches = 0
        self.ended = 0
        self.sweeps = 0
        self.problem: str | None = None
        self.slowness = 0.0
        self.gate = asyncio.Event()
        self.gate.set()
        self._obeying = set[asyncio.Task[None]]()

    @property
    def running(self) -> int:
        return len(self.puppets) - self.ended

    async def launch(self) -> Launched:
        self.launches += 1
        await self.gate.wait()
        await asyncio.sleep(self.slowness)
        if self.problem:
            raise SandboxUnavailable(self.problem)
        connecting = asyncio.ensure_future(self._connected())
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            await (await connecting).close()
            raise

    async def _connected(self) -> Launched:
        ours, theirs = socket.socketpair()
        puppet = await Puppet.of(theirs)
        channel = Channel(*await asyncio.open_connection(sock=ours), started=True)
        kernel = Kernel(channel, self._settings)
        self.puppets.append(puppet)
        self._obeying.add(asyncio.create_task(puppet.obey()))

        async def close() -> None:
            kernel.channel.close()
            puppet.close()
            self.ended += 1

        return Launched(kernel, close)

    async def check(self) -> str | None:
        return self.problem

    async def sweep(self) -> None:
        self.sweeps += 1

    async def close(self) -> None:
        await asyncio.gather(*self._obeying)
