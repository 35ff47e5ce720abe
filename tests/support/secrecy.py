"""No log may hold what a test says, is told, or signs in with: looked at after each test of the suite.

Texts and keys are collected where HTTP leaves and enters this process: its clients, and what the server in it asks of others.
Logs are read at their source: the loggers of this process, and the standard error of every `threadloom` process it starts.
"""

import logging
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Container, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

import httpx2
import orjson
import pytest
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

import threadloom
from threadloom.telemetry import logs

SHORTEST = 12
"""So many characters of a text in a row are no accident."""
SHORTEST_KEY = 8
MOST_OF_A_BODY = 256 * 1024
MOST_OF_A_FILE = 1024 * 1024
"""Of tests: what was said in earlier tests of the same file may be logged late, by a server that they share."""
WORD = re.compile(r"[\w./:@+-]*")
"""Ids, names, paths, addresses, times: what may stand in a log."""
KEY = re.compile(r"\b(?:sk-|whsec_)[\w+/=-]{20,}")
KEY_HEADERS = ("authorization", "api-key", "x-api-key")
OURS = frozenset({"error", "last_error", "incomplete_details"})
"""Sentences of the server's own."""
ANNOUNCED = b"Your first API key, shown only now: "
"""By `threadloom serve`, before its log begins, to who starts it without an admin key."""
FRAGMENTS = (b'.delta"', b"chat.completion.chunk")
"""Events with some characters of a text that is whole in a later one."""


@dataclass
class Body:
    """What a request or an answer brought."""

    kind: str
    data: bytearray = field(default_factory=bytearray)

    def add(self, data: bytes) -> None:
        self.data += data[: MOST_OF_A_BODY - len(self.data)]

    def texts(self) -> Iterator[str]:
        if "json" in self.kind:
            yield from texts_in_json(self.data)
        elif "event-stream" in self.kind:
            for line in self.data.splitlines():
                if line.startswith(b"data: {") and not any(one in line for one in FRAGMENTS):
                    yield from texts_in_json(line[6:])
        elif "multipart" in self.kind:
            boundary = self.kind.rpartition("boundary=")[2].strip('"').encode()
            for part in self.data.split(b"--" + boundary):
                yield decoded(part.partition(b"\r\n\r\n")[2])
        else:
            yield decoded(self.data)


def texts_in_json(data: bytes | bytearray) -> Iterator[str]:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        yield decoded(data)
    else:
        yield from strings(document, OURS)


def strings(value: object, without: Container[str] = ()) -> Iterator[str]:
    """All in a document, apart from what stands under these names."""
    match value:
        case str():
            yield value
        case list():
            for one in cast("list[object]", value):
                yield from strings(one, without)
        case dict():
            for name, one in cast("dict[str, object]", value).items():
                if name not in without:
                    yield from strings(one, without)
        case None | int() | float():
            pass
        case _:
            yield repr(value)  # as it is logged


def decoded(data: bytes | bytearray) -> str:
    """What is readable of it; nothing of pictures and archives."""
    return "" if b"\0" in data else data.decode(errors="ignore")


class Watch:
    """What was said, what was logged, and where they meet."""

    def __init__(self) -> None:
        self._bodies: list[Body] = []
        self._texts: dict[str, None] = {}
        self._keys: set[str] = set()
        self._lines: list[Mapping[str, object]] = []

    def body(self, kind: str) -> Body:
        """To be filled as the bytes go by."""
        self._bodies.append(body := Body(kind))
        return body

    def signed(self, key: str) -> None:
        if len(key) >= SHORTEST_KEY:
            self._keys.add(key)

    def logged(self, line: Mapping[str, object]) -> None:
        self._lines.append(line)

    def forget(self) -> None:
        """Another file of tests begins, with servers of its own."""
        self._bodies.clear()
        self._texts.clear()
        self._keys.clear()

    def leaks(self) -> list[str]:
        """A sentence for each line that was logged since the last look and holds what it may not."""
        lines, self._lines = self._lines, []
        self._learn()
        said = "\n".join(self._texts)
        values = {value for line in lines for value in strings(line)}
        found = {value: leak for value in values if (leak := self._leak(value, said))}
        return [
            f"{found[value]!r} stands in {line!r}"
            for line in lines
            for value in strings(line)
            if value in found
        ]

    def _learn(self) -> None:
        bodies, self._bodies = self._bodies, []
        for body in bodies:
            self._texts.update(dict.fromkeys(text for text in body.texts() if is_telling(text)))
        size = sum(map(len, self._texts))
        while size > MOST_OF_A_FILE:
            oldest = next(iter(self._texts))
            del self._texts[oldest]
            size -= len(oldest)

    def _leak(self, value: str, said: str) -> str | None:
        if key := KEY.search(value):
            return key[0]
        if key := next((key for key in tuple(self._keys) if key in value), None):
            return key
        if not is_telling(value):
            return None
        told = (piece for piece in pieces(value) if piece in said)
        return next((piece for piece in told if piece not in own_words()), None)


def is_telling(text: str) -> bool:
    return len(text) >= SHORTEST and not WORD.fullmatch(text)


@cache
def own_words() -> str:
    """The program's source, for sentences of its own that it tells clients too; literals on several lines are joined."""
    files = sorted(Path(threadloom.__file__).parent.rglob("*.py"))
    return re.sub(r'"\s*\n\s*f?"', "", "\n".join(file.read_text() for file in files))


def pieces(text: str) -> Iterator[str]:
    """All that are as long as an accident can be, and more than a word."""
    for start in range(len(text) - SHORTEST + 1):
        piece = text[start : start + SHORTEST]
        if not WORD.fullmatch(piece):
            yield piece


# Where HTTP passes


class Copied(httpx2.AsyncByteStream, httpx2.SyncByteStream):
    """A stream whose bytes are also kept."""

    def __init__(self, stream: Any, body: Body) -> None:
        self._stream = stream
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            self._body.add(piece)
            yield piece

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            self._body.add(piece)
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()

    def close(self) -> None:
        self._stream.close()


def watch_request(watch: Watch, request: httpx2.Request) -> None:
    for name in KEY_HEADERS:
        watch.signed(request.headers.get(name, "").rpartition(" ")[2])
    body = watch.body(request.headers.get("content-type", ""))
    try:
        body.add(request.content)
    except httpx2.RequestNotRead:
        request.stream = Copied(request.stream, body)


def watch_answer(watch: Watch, response: httpx2.Response) -> httpx2.Response:
    kind = response.headers.get("content-type", "")
    if "version=0.0.4" not in kind:  # metrics are no secret
        response.stream = Copied(response.stream, watch.body(kind))
    return response


def watch_http(watch: Watch, patch: pytest.MonkeyPatch) -> None:
    for transport in (httpx2.AsyncHTTPTransport, httpx2.ASGITransport):
        ask = transport.handle_async_request

        async def asked(self: Any, request: httpx2.Request, ask: Any = ask) -> httpx2.Response:
            watch_request(watch, request)
            return watch_answer(watch, await ask(self, request))

        patch.setattr(transport, "handle_async_request", asked)
    ask_at_once: Any = httpx2.HTTPTransport.handle_request

    def asked_at_once(self: Any, request: httpx2.Request) -> httpx2.Response:
        watch_request(watch, request)
        return watch_answer(watch, ask_at_once(self, request))

    patch.setattr(httpx2.HTTPTransport, "handle_request", asked_at_once)


# Where logs are written


class First:
    """Processors behind one that comes before any that are configured, now or later."""

    def __init__(self, first: Processor, rest: Iterable[Processor]) -> None:
        self._first = first
        self._rest = rest

    def __iter__(self) -> Iterator[Processor]:
        yield self._first
        yield from self._rest


def watch_loggers(watch: Watch) -> None:
    """Of this process, also of tests that look at logs or silence them."""
    bound: Any = structlog.make_filtering_bound_logger(logging.DEBUG)

    def keep(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        line: Any = dict(event)
        for processor in logs.PROCESSORS:
            line = processor(logger, method, line)
        watch.logged(line)
        return event

    def watched(logger: WrappedLogger, processors: Iterable[Processor], context: object) -> object:
        return bound(logger, First(keep, processors), context)

    wrapper: Any = watched  # a class is all that its type allows
    structlog.configure(wrapper_class=wrapper)


class Sink:
    """What processes wrote to standard error."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="threadloom-logs-"))
        shutil.copy(Path(__file__).with_name("sitecustomize.py"), self.folder)
        self._kept = self.folder / "standard-error"
        self._kept.touch()
        self._read = 0

    def lines(self) -> Iterator[Mapping[str, object]]:
        """Those that were written since the last look."""
        if self._kept.stat().st_size == self._read:
            return
        with self._kept.open("rb") as kept:
            kept.seek(self._read)
            written = kept.read()
        self._read += len(written)
        for line in written.splitlines():
            if not line.startswith(ANNOUNCED):
                yield line_of(line)


def line_of(written: bytes) -> Mapping[str, object]:
    try:
        document = orjson.loads(written)
    except orjson.JSONDecodeError:
        document = None
    if isinstance(document, dict):
        return cast("dict[str, object]", document)
    return {"event": written.decode(errors="replace")}


# Where pytest asks


class Secrecy:
    """Fails a test that had something logged which it said, was told, or signed in with."""

    def __init__(self) -> None:
        self.watch = Watch()
        self._sink = Sink()
        self._patch = pytest.MonkeyPatch()
        self._bridge = logs.Bridge(logging.WARNING)
        self._file: Path | None = None

    def start(self) -> None:
        watch_http(self.watch, self._patch)
        logging.getLogger().addHandler(self._bridge)
        self._patch.setenv("PYTHONPATH", str(self._sink.folder), prepend=os.pathsep)

    def pytest_unconfigure(self) -> None:
        self._patch.undo()
        logging.getLogger().removeHandler(self._bridge)
        structlog.reset_defaults()
        shutil.rmtree(self._sink.folder)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if item.path != self._file:
            self.watch.forget()
            self._file = item.path
        watch_loggers(self.watch)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Generator[None]:
        yield
        for line in self._sink.lines():
            self.watch.logged(line)
        if leaks := self.watch.leaks():
            pytest.fail("Logged, but secret: " + "\n".join(leaks), pytrace=False)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        config.pluginmanager.register(secrecy := Secrecy(), "secrecy")
        secrecy.start()
