"""Sandboxes in memory, where nothing is run: a test says what each cell prints, shows and writes."""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace

from threadloom.sandbox.session import (
    Finished,
    Listing,
    Logs,
    Output,
    Picture,
    SandboxFile,
    SandboxFileRefused,
    SandboxLost,
    SandboxUnavailable,
)


@dataclass(frozen=True)
class Cell:
    """Code that was executed."""

    key: str
    code: str
    seconds: float


@dataclass(frozen=True)
class Writes:
    """A file that a cell leaves in its sandbox."""

    path: str
    content: bytes


Step = Output | Writes | asyncio.Event | Exception


class FakeSession:
    """One key's sandbox; `content` is its files, `links` the second names."""

    def __init__(self, sandbox: "FakeSandbox", key: str) -> None:
        self._sandbox = sandbox
        self._key = key
        self._gone = asyncio.Event()
        self.fresh = True
        self.content: dict[str, bytes] = {}
        self.links: dict[str, str] = {}
        self._written: dict[str, SandboxFile] = {}
        """What nobody has kept yet."""
        self._fetched = set[str]()
        """What of it somebody has who may yet say that it was kept."""
        self._call: str | None = None

    @property
    def lost(self) -> bool:
        return self._gone.is_set()

    def lose(self) -> None:
        self._gone.set()

    async def execute(
        self, code: str, *, seconds: float, call: str = "", kept: str = ""
    ) -> AsyncGenerator[Output]:
        self._check()
        if kept == self._call:
            for path in self._fetched:
                self._written.pop(path, None)
        self._fetched.clear()
        self._call = call
        cell = Cell(self._key, code, seconds)
        self.fresh = False
        try:
            async with aclosing(self._outputs(self._sandbox.begin(cell), seconds)) as outputs:
                async for output in outputs:
                    yield output
        except (GeneratorExit, asyncio.CancelledError):
            self._sandbox.left.append(cell)
            raise

    async def _outputs(self, steps: Sequence[Step], seconds: float) -> AsyncGenerator[Output]:
        for step in steps:
            self._check()
            match step:
                case Logs() | Picture():
                    yield step
                case Finished():
                    yield replace(step, files=step.files or self._changed())
                    return
                case Writes():
                    self.content[step.path] = step.content
                    self._written[step.path] = SandboxFile(step.path, len(step.content))
                case asyncio.Event():
                    if not await self._came(step, seconds):
                        yield Finished("timeout", files=self._changed())
                        return
                case Exception():
                    if isinstance(step, SandboxLost):
                        self.lose()
                    raise step
        self._check()
        yield Finished("ok", files=self._changed())

    def _changed(self) -> tuple[SandboxFile, ...]:
        return tuple(file for path, file in self._written.items() if path in self.content)

    async def _came(self, event: asyncio.Event, seconds: float) -> bool:
        """Whether it was set in time; raises SandboxLost as soon as the session is."""
        waits = [asyncio.create_task(each.wait()) for each in (event, self._gone)]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._check()
        return event.is_set()

    async def put(self, path: str, size: int, content: AsyncIterator[bytes]) -> None:
        self._check()
        self._sandbox.refuse(path)
        given = b"".join([piece async for piece in content])
        assert len(given) == size
        self._check()
        self.links.pop(path, None)
        self._written.pop(path, None)
        self.content[path] = given

    async def link(self, path: str, target: str) -> None:
        self._check()
        self._sandbox.refuse(path)
        self.content.pop(path, None)
        self.links[path] = target

    async def remove(self, path: str) -> None:
        self._check()
        self._sandbox.refuse(path)
        self._written.pop(path, None)
        self.content.pop(path, None)
        self.links.pop(path, None)

    async def get(self, file: SandboxFile) -> AsyncGenerator[bytes]:
        self._check()
        self._sandbox.refuse(file.path)
        if file.path not in self.content:
            raise SandboxFileRefused("The file is not there any more.")
        content = self.content[file.path]
        if len(content) != file.size:
            raise SandboxFileRefused("The file has changed.")
        middle = file.size // 2
        for piece in (content[:middle], content[middle:]):
            self._check()
            if piece:
                yield piece
        self._fetched.add(file.path)

    async def files(self) -> Listing:
        self._check()
        files = [SandboxFile(path, len(self.content[path])) for path in sorted(self.content)]
        most = self._sandbox.most_listed
        return Listing(files[:most], len(files) <= most)

    def _check(self) -> None:
        if self.lost:
            raise SandboxLost("The sandbox has ended.")


class FakeSandbox:
    """Plays one script for each cell; a cell with none left prints nothing and ends well.

    `cells` is what was executed, `left` what of it was left before its end, `began` is set when a cell begins.
    `unavailable` is the sentence that every new session fails with while it is set. `most_listed`
    is how many files a listing has.
    """

    def __init__(self) -> None:
        self.cells: list[Cell] = []
        self.left: list[Cell] = []
        self.began = asyncio.Event()
        self.unavailable: str | None = None
        self.most_listed = 1_000
        self.sessions: dict[str, FakeSession] = {}
        self.refused: dict[str, str] = {}
        self._scripts = deque[Sequence[Step]]()
        self._locks = defaultdict[str, asyncio.Lock](asyncio.Lock)

    def then(self, *steps: Step) -> None:
        """What the next cell does: gives outputs, `Writes` files, waits for an `asyncio.Event`, raises.

        It ends with `Finished("ok")` and the files it wrote, unless the script has a Finished. A wait longer than the
        cell's time ends it with `timeout`; a SandboxLost ends the session too.
        """
        self._scripts.append(steps)

    def refuses(self, path: str, sentence: str) -> None:
        """A file of this path cannot go in or come out."""
        self.refused[path] = sentence

    def content(self, key: str) -> dict[str, bytes]:
        """The files of the key's session, by path."""
        return self.sessions[key].content

    def lose(self, key: str) -> None:
        """The key's session ends under whoever has it."""
        self.sessions.pop(key).lose()

    @asynccontextmanager
    async def session(self, key: str) -> AsyncGenerator[FakeSession]:
        async with self._locks[key]:
            if self.unavailable is not None:
                raise SandboxUnavailable(self.unavailable)
            session = self.sessions.setdefault(key, FakeSession(self, key))
            try:
                yield session
            finally:
                if (session.lost or session.fresh) and self.sessions.get(key) is session:
                    del self.sessions[key]

    async def keys(self) -> Sequence[str]:
        return list(self.sessions)

    async def end(self, key: str) -> None:
        if key in self.sessions:
            self.lose(key)

    async def close(self) -> None:
        for key in list(self.sessions):
            self.lose(key)

    def begin(self, cell: Cell) -> Sequence[Step]:
        """A session's side: note the cell, take its script."""
        self.cells.append(cell)
        self.began.set()
        return self._scripts.popleft() if self._scripts else ()

    def refuse(self, path: str) -> None:
        """A session's side: raise what a test told to."""
        if path in self.refused:
            raise SandboxFileRefused(self.refused[path])
