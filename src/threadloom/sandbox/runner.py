"""The process that holds sandboxes for others (`threadloom sandbox serve`): it alone needs the engine.

A visitor (`remote.py`) has a connection for each session it is in. The runner waits for the key on its behalf, relays the
driver's frames, and clears up after visitors that crashed.
"""

import asyncio
import hmac
import os
from collections.abc import Coroutine, Generator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from socket import AF_INET, AF_INET6, AF_UNIX, create_server, socket
from typing import Any, Protocol

import structlog

from threadloom.config import CodeInterpreter
from threadloom.config import Runner as RunnerSettings
from threadloom.errors import StartError
from threadloom.sandbox.channel import GOODBYES, Channel
from threadloom.sandbox.frames import (
    Data,
    Frame,
    FrameReader,
    Message,
    Unintelligible,
    Value,
    packed,
)
from threadloom.sandbox.kernel import Kernel
from threadloom.sandbox.remote import close
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
    first_line,
    line_of,
)

log = structlog.stdlib.get_logger()

HELLO_SECONDS = 5.0
MAX_VISITS = 256
MAX_STRANGERS = 256
"""Connections whose hello has not come; more than are accepted at once."""
MAX_KEY = 256
AHEAD = 4
"""Frames of a visitor that may wait for the driver."""
READY: Message = {"ev": "ready", "v": 1}
REQUESTS = {"exec", "put", "link", "remove", "get", "files", "interrupt"}


class Lender(Protocol):
    """Sandboxes of this process, with their drivers' streams."""

    def session(self, key: str) -> AbstractAsyncContextManager[Kernel]: ...
    async def keys(self) -> Sequence[str]: ...
    async def end(self, key: str) -> None: ...


@contextmanager
def listening(settings: RunnerSettings) -> Generator[socket]:
    """The runner's socket; a path is for this user only, and is gone at the end. Raises StartError."""
    if settings.url is None:
        raise StartError(
            "Set code_interpreter.runner.url to where the sandbox runner shall listen."
        )
    try:
        address = address_of(settings.url)
        if isinstance(address, str):
            bound = at_path(Path(address))
        elif settings.token is None:
            raise StartError(
                "Set code_interpreter.runner.token: anybody can reach a tcp:// address."
            )
        else:
            family = AF_INET6 if ":" in address[0] else AF_INET
            bound = create_server(address, family=family, backlog=MAX_VISITS)
    except (OSError, ValueError, OverflowError) as error:
        raise StartError(f"Cannot listen on {settings.url}: {error}.") from None
    with bound:
        try:
            yield bound
        finally:
            if isinstance(address, str):
                Path(address).unlink(missing_ok=True)


def at_path(path: Path) -> socket:
    """Raises OSError, also while another process listens there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_socket():
        with socket(AF_UNIX) as visitor:
            if visitor.connect_ex(str(path)) == 0:
                raise OSError("another process listens there")
        path.unlink()
    bound = socket(AF_UNIX)
    mask = os.umask(0o177)
    try:
        bound.bind(str(path))
        bound.listen(MAX_VISITS)
    except OSError:
        bound.close()
        raise
    finally:
        os.umask(mask)
    return bound


class Refused(Exception):
    """A hello that is not answered; the sentence goes to the visitor."""


class Gone(Exception):
    """The visitor crashed, froze, or said what makes no sense."""


class Runner:
    """Serves visitors until it is told to stop."""

    def __init__(
        self, lender: Lender, settings: CodeInterpreter, *, quiet: float = QUIET_SECONDS
    ) -> None:
        """A visitor in a session that says nothing for `quiet` seconds is taken for frozen."""
        self._lender = lender
        self._settings = settings
        self._quiet = quiet
        self._visits: set[asyncio.Task[None]] = set()
        self._strangers: dict[asyncio.StreamWriter, None] = {}
        """Those that came first are first."""
        self._admitted = 0

    async def serve(self, listening: socket, stopped: asyncio.Event) -> None:
        start = asyncio.start_unix_server if listening.family == AF_UNIX else asyncio.start_server
        server = await start(self._visited, sock=listening, limit=BUFFER)
        try:
            await stopped.wait()
        finally:
            server.close()
            for visit in self._visits:
                visit.cancel()
            await asyncio.gather(*self._visits, return_exceptions=True)

    async def _visited(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit = asyncio.ensure_future(self._answered(reader, writer))
        self._visits.add(visit)
        try:
            await visit
        finally:
            self._visits.discard(visit)

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._meet(writer)
        hello: Line | None = None
        try:
            hello = await first_line(reader, HELLO_SECONDS)
            with self._admit(hello, writer):
                await self._answer(hello, reader, writer)
        except Refused as refusal:
            writer.write(line_of({"error": str(refusal)}))
        except (Garbled, Gone, OSError) as error:
            # Health checks come and go without a word, all day.
            if hello is not None or not isinstance(error, ConnectionError):
                log.info("sandbox visitor gone", reason=str(error))
        finally:
            await close(writer)
            self._strangers.pop(writer, None)

    def _meet(self, stranger: asyncio.StreamWriter) -> None:
        """Where there are too many, the oldest makes room: who has the token says so at once."""
        self._strangers[stranger] = None
        if len(self._strangers) > MAX_STRANGERS:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.transport.abort()

    async def _answer(
        self, hello: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        match hello.get("op"), hello.get("key"):
            case "keys", None:
                writer.write(line_of({"keys": list(await self._lender.keys())}))
            case "end", str(key):
                await self._lender.end(key)
                writer.write(line_of({"ended": key}))
            case "session", str(key) if key.isascii() and 0 < len(key) <= MAX_KEY:
                visit = Visit(self._lender, self._settings, reader, writer, self._quiet)
                await visit.use(key)
            case _:
                raise Refused("The sandbox runner does not know this request.")

    @contextmanager
    def _admit(self, hello: Line, writer: asyncio.StreamWriter) -> Generator[None]:
        """Raises Refused."""
        token, given = self._settings.runner.token, hello.get("token")
        if token and not is_same(token.get_secret_value(), given):
            raise Refused("The sandbox runner has another token in code_interpreter.runner.token.")
        if self._admitted >= MAX_VISITS:
            raise Refused("The sandbox runner has too many visitors.")
        self._strangers.pop(writer, None)
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1


class Visit:
    """One session, for as long as its visitor is in it."""

    def __init__(
        self,
        lender: Lender,
        settings: CodeInterpreter,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        quiet: float,
    ) -> None:
        self._lender = lender
        self._settings = settings
        self._quiet = quiet
        self._from = FrameReader(reader)
        self._to = writer
        self._requests = asyncio.Queue[Frame | None](AHEAD)
        self._left = False

    async def use(self, key: str) -> None:
        """Raises Gone."""
        await meanwhile(self._session(key), self._listen())

    async def _session(self, key: str) -> None:
        """Wait for the key, and relay until the visitor leaves or the sandbox ends."""
        waiting = asyncio.create_task(beat(self._to, b"\n"))
        try:
            async with self._lender.session(key) as kernel:
                waiting.cancel()
                await self._relay(key, kernel)
        except SandboxUnavailable as error:
            raise Refused(str(error)) from None
        except SandboxLost as error:
            why = [why for why, sentence in GOODBYES.items() if sentence == str(error)]
            self._to.write(packed({"ev": "bye", "why": why[0] if why else "lost"}))
        finally:
            waiting.cancel()

    async def _relay(self, key: str, kernel: Kernel) -> None:
        self._to.write(line_of({"fresh": kernel.fresh}) + packed(READY))
        channel = kernel.channel
        try:
            await meanwhile(self._ask(channel), self._answer(channel))
        finally:
            if channel.busy and not self._left:
                # Nobody waits for it any more, and what it has done by now nobody knows.
                await self._lender.end(key)

    async def _listen(self) -> None:
        """What the visitor says, also while it waits."""
        while not self._left:
            frame = await self._next()
            self._left = frame == LEAVE
            if frame != ALIVE:
                await self._requests.put(None if self._left else frame)

    async def _next(self) -> Frame:
        try:
            async with asyncio.timeout(self._quiet):
                return await self._from.next()
        except TimeoutError:
            raise Gone("it says nothing") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Gone("it went without goodbye") from None
        except Unintelligible as fault:
            raise Gone(str(fault)) from None

    async def _ask(self, channel: Channel) -> None:
        while (request := await self._requests.get()) is not None:
            try:
                await channel.send(self._allowed(request))
            except Unintelligible as fault:
                raise Gone(str(fault)) from None

    async def _answer(self, channel: Channel) -> None:
        while True:
            self._to.write(packed(await channel.receive()))
            await self._to.drain()

    def _allowed(self, request: Frame) -> Frame:
        """Within this side's limits, whatever the visitor's are. Raises Unintelligible."""
        if isinstance(request, Data):
            return request
        if request.get("op") not in REQUESTS:
            raise Unintelligible("no request for a visitor")
        if request.get("op") != "exec":
            return request
        settings = self._settings
        return {
            **request,
            "seconds": least(request.get("seconds"), settings.timeout),
            "max_output": least(request.get("max_output"), settings.max_output),
            "max_pictures": least(request.get("max_pictures"), settings.max_pictures),
            "max_files": least(request.get("max_files"), settings.max_files),
        }


def least(asked: Value, limit: float) -> float:
    """Raises Unintelligible."""
    if not isinstance(asked, int | float):
        raise Unintelligible("no limit")
    return min(asked, limit)


def is_same(secret: str, given: Value) -> bool:
    """Takes as long for a near miss as for any other."""
    return isinstance(given, str) and hmac.compare_digest(
        secret.encode(), given.encode(errors="replace")
    )


async def meanwhile(main: Coroutine[Any, Any, None], beside: Coroutine[Any, Any, None]) -> None:
    """Until `main` has ended, or `beside` has failed: what fails is raised, what is left is cancelled and awaited."""
    tasks = asyncio.ensure_future(main), asyncio.ensure_future(beside)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[1].done():
            tasks[1].result()
        await tasks[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
