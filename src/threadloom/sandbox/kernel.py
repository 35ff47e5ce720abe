"""A sandbox in our hands: `Session` as requests to its driver. Nothing that the driver says is believed before it is checked."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from threadloom.config import CodeInterpreter
from threadloom.sandbox.answers import (
    MAX_PICTURE,
    files_in,
    finished_in,
    media_type_in,
    picture_of,
    size_in,
    text_in,
)
from threadloom.sandbox.channel import BACKSTOP, REPLY_SECONDS, Channel
from threadloom.sandbox.frames import MAX_FRAME, PIECE, Data, Frame, Message, Unintelligible, Value
from threadloom.sandbox.session import (
    Finished,
    Listing,
    Logs,
    Output,
    Picture,
    SandboxFile,
    SandboxFileRefused,
)

PING_SECONDS = 5.0
MAX_CODE = MAX_FRAME // 8
"""Bytes; escaped as JSON they are still one frame."""
NOTES = 16 * 1024
"""Characters that the driver may add to what the code prints."""
NO_SPACE = "There is no room for the file in the sandbox."
CHANGED = "The file has changed."
ABOUT_FILES = {"put", "link", "remove", "get"}
REFUSALS: dict[str, str] = {
    "no_space": NO_SPACE,
    "not_a_file": "It is not a regular file.",
    "too_large": "The file is too large.",
    "bad_path": "The sandbox has no place of this name for a file.",
    "missing": "The file is not there any more.",
    "changed": CHANGED,
    "sparse": "It consists mostly of holes: write all of its bytes, or a smaller file.",
}


class Kernel:
    """Speaks with one driver. Each method first waits for the end of what an earlier one left under way."""

    def __init__(self, channel: Channel, settings: CodeInterpreter, *, fresh: bool = True) -> None:
        self.channel = channel
        self.fresh = fresh
        self._settings = settings
        self._ids = map(str, itertools.count(1))
        self._asked = ""

    async def execute(
        self, code: str, *, seconds: float, call: str = "", kept: str = ""
    ) -> AsyncGenerator[Output]:
        if len(code.encode(errors="replace")) > MAX_CODE:
            yield Logs("The code is too long to be run.\n")
            yield Finished("error")
            return
        self.fresh = False
        id_ = next(self._ids)
        try:
            await self._ask(
                "exec",
                id_,
                code=code,
                seconds=seconds,
                call=call,
                kept=kept,
                max_output=self._settings.max_output,
                max_pictures=self._settings.max_pictures,
                max_files=self._settings.max_files,
            )
            async with aclosing(self._outputs(Patience(seconds + BACKSTOP))) as outputs:
                async for output in outputs:
                    yield output
        finally:
            if self.channel.busy == id_:
                self.channel.interrupt()

    async def _outputs(self, patience: "Patience") -> AsyncGenerator[Output]:
        letters = self._settings.max_output + NOTES
        pictures = self._settings.max_pictures
        while True:
            message = message_of(await patience.receive(self.channel))
            with self.channel.losing():
                match message.get("ev"):
                    case "log":
                        output = Logs(text_in(message, "text"))
                        letters -= len(output.text)
                    case "picture":
                        output = await self._picture(message, patience)
                        pictures -= 1
                    case "done":
                        output = finished_in(message)
                    case _:
                        raise Unintelligible("did not run it")
                if letters < 0 or pictures < 0:
                    raise Unintelligible("more than was asked for")
            yield output
            if isinstance(output, Finished):
                return

    async def _picture(self, message: Message, patience: "Patience") -> Picture:
        media_type, size = media_type_in(message), size_in(message)
        if size > MAX_PICTURE:
            raise Unintelligible("picture too large")
        content = bytearray()
        while len(content) < size:
            content += piece_of(await patience.receive(self.channel))
        return picture_of(media_type, bytes(content))

    async def put(self, path: str, size: int, content: AsyncIterator[bytes]) -> None:
        if size > self._settings.disk:
            raise SandboxFileRefused(NO_SPACE)
        await self._ask("put", path=path, size=size)
        sent = 0
        async for given in content:
            for start in range(0, len(given), PIECE):
                piece = given[start : start + PIECE]
                sent += len(piece)
                if sent > size:
                    break
                await self.channel.send(Data(piece))
        if sent != size:
            raise SandboxFileRefused(CHANGED)
        await self._answer()

    async def link(self, path: str, target: str) -> None:
        await self._ask("link", path=path, target=target)
        await self._answer()

    async def remove(self, path: str) -> None:
        await self._ask("remove", path=path)
        await self._answer()

    async def get(self, file: SandboxFile) -> AsyncGenerator[bytes]:
        await self._ask("get", path=file.path, size=file.size)
        with self.channel.losing():
            left = size_in(await self._answer())
        if left != file.size:
            raise SandboxFileRefused(CHANGED)
        while left:
            frame = await self.channel.receive(REPLY_SECONDS)
            if not isinstance(frame, Data):
                raise self._refused(frame)
            left -= len(frame.content)
            yield frame.content
        await self._answer()

    async def files(self) -> Listing:
        await self._ask("files")
        with self.channel.losing():
            message = await self._answer()
            files = sorted(files_in(message), key=lambda file: file.path)
        return Listing(files, message.get("complete") is True)

    async def claim(self, idle: float, life: float) -> None:
        """Start the driver's clocks: it ends by itself so many seconds after its last use, or after this."""
        await self._ask("claim", idle=idle, life=life)
        await self._answer()

    async def ping(self) -> int | None:
        """Whether it answers; raises SandboxLost. Gives the bytes of memory it uses, if it can tell."""
        await self._ask("ping")
        memory = (await self._answer(PING_SECONDS)).get("memory")
        return memory if isinstance(memory, int) else None

    async def _ask(self, op: str, id_: str | None = None, /, **fields: Value) -> None:
        await self.channel.settle()
        self._asked = op
        await self.channel.send({"op": op, "id": id_ or next(self._ids), **fields})

    async def _answer(self, seconds: float = REPLY_SECONDS) -> Message:
        message = message_of(await self.channel.receive(seconds))
        if message.get("ev") == "fail":
            raise self._refused(message)
        return message

    def _refused(self, message: Message) -> Exception:
        code = message.get("code")
        if self._asked in ABOUT_FILES and isinstance(code, str) and code in REFUSALS:
            return SandboxFileRefused(REFUSALS[code])
        return self.channel.lose("refused")


class Patience:
    """How long to wait in all. Only waiting counts: whoever takes the outputs may be slow."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds

    async def receive(self, channel: Channel) -> Frame:
        loop = asyncio.get_running_loop()
        since = loop.time()
        try:
            return await channel.receive(max(self._left, 0))
        finally:
            self._left -= loop.time() - since


def message_of(frame: Frame) -> Message:
    """A channel gives pieces only where they are due."""
    assert not isinstance(frame, Data)
    return frame


def piece_of(frame: Frame) -> bytes:
    assert isinstance(frame, Data)
    return frame.content
