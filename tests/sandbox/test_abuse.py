"""Code that tries to get out, to stay, to use up or to confuse: each file in `abuse/` is a cell.

Its first lines say what is to come of it: the endings it may have, what the model must be able to read, after how many
seconds it is stopped, and which files it leaves. What gets out prints ESCAPED.
"""

import asyncio
import http.client
import re
import threading
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from tests.sandbox.canaries import Canaries, canaries
from tests.support.engine import containers, sessions, small
from tests.support.process import serving
from threadloom.runs.code_outcome import sentences_of
from threadloom.sandbox.session import (
    Finished,
    Logs,
    Picture,
    SandboxFile,
    SandboxFileRefused,
    Session,
)
from threadloom.sandbox.sessions import Sessions

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]

CORPUS = Path(__file__).with_name("abuse")
TOOLS = (CORPUS / "_tools.ipy").read_text()
LIMITS = small(max_output=20_000, max_pictures=5, max_files=50)
HEADER = re.compile(r"^# (ending|says|seconds|files|next|leaves|strikes): ?(.*)$", re.MULTILINE)
BACKSTOP = 4.0
"""Seconds after its limit until code that ignores the interrupt has gone, and a little more."""
PATIENCE = 2.0
"""Seconds within which a server must answer, whatever code does, also where other tests take the processors."""
ENOUGH = 30.0
"""Seconds for code that ends by itself."""
OWNER = 10001


@dataclass(frozen=True)
class Snippet:
    """`files` are those that it may leave, if that matters; after `next`, what follows is run in a new session."""

    name: str
    code: str
    endings: frozenset[str]
    says: str = ""
    seconds: float = 2.0
    files: tuple[str, ...] | None = None
    next: str = ""
    leaves: str = ""
    strikes: str = ""
    """Says why the next cell may die of this one."""


@dataclass
class Ran:
    text: str = ""
    pictures: int = 0
    finished: Finished | None = None
    seconds: float = 0.0


@dataclass
class Scene:
    """A sandbox on a host with canaries and a server."""

    sandbox: Sessions
    canaries: Canaries
    health: "Pulse"
    own: "Pulse"
    containers: set[str] = field(default_factory=set[str])

    async def note_containers(self) -> None:
        self.containers |= {container.id for container in await containers(LIMITS)}


@dataclass
class Pulse:
    """How long something took at its slowest since the last look."""

    slowest: float = 0.0
    beats: int = 0

    def beat(self, seconds: float) -> None:
        self.slowest = max(self.slowest, seconds)
        self.beats += 1

    def look(self) -> float:
        slowest, self.slowest = self.slowest, 0.0
        return slowest

    def over(self, *, beats: int) -> float:
        """At its slowest during the next so many."""
        self.look()
        enough = self.beats + beats
        while self.beats < enough:
            time.sleep(0.01)
        return self.look()


def snippet_in(path: Path) -> Snippet:
    code = path.read_text()
    said = dict(HEADER.findall(code))
    return Snippet(
        name=path.stem,
        code=code,
        endings=frozenset(said["ending"].split()),
        says=said.get("says", ""),
        seconds=float(said.get("seconds", 2 if "timeout" in said["ending"] else ENOUGH)),
        files=tuple(said["files"].split()) if "files" in said else None,
        next=said.get("next", ""),
        leaves=said.get("leaves", ""),
        strikes=said.get("strikes", ""),
    )


SNIPPETS = [snippet_in(path) for path in sorted(CORPUS.glob("[a-z]*.ipy"))]


@pytest.fixture(scope="module")
def health(tmp_path_factory: pytest.TempPathFactory) -> Generator[Pulse]:
    """Of a server on this machine, asked all the time, from when its start is over."""
    settings = {"THREADLOOM_CODE_INTERPRETER__POOL": "0"}
    with serving(tmp_path_factory.mktemp("server"), settings) as address, polled(address) as pulse:
        while pulse.over(beats=50) > PATIENCE / 10:
            pass
        yield pulse


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Generator[Canaries]:
    with canaries(tmp_path_factory.mktemp("canary")) as there:
        yield there


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(birds: Canaries, health: Pulse) -> AsyncGenerator[Scene]:
    """One for all snippets. Nothing is left afterwards."""
    async with felt() as own, sessions(LIMITS) as sandbox:
        here = Scene(sandbox, birds, health, own)
        volumes = birds.volumes()
        yield here
    assert here.containers
    assert not processes_in(here.containers)
    assert birds.volumes() == volumes
    assert not files_of_strangers()


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.name)
async def test_abuse(scene: Scene, snippet: Snippet) -> None:
    if snippet.files is not None:
        await scene.sandbox.end("abuse")  # what others left, and nobody took, is named again
    scene.health.look()
    scene.own.look()
    async with scene.sandbox.session("abuse") as session:
        ran = await run(session, prepared(snippet.code, scene.canaries), snippet.seconds)
    await scene.note_containers()
    check(ran, snippet)
    if snippet.next:
        await scene.sandbox.end("abuse")
    async with scene.sandbox.session("abuse") as session:
        after = await run(session, "print(6 * 7)", 20)
        if snippet.strikes and after.finished and after.finished.ending == "died":
            after = await run(session, "print(6 * 7)", 20)
    if snippet.leaves:
        await scene.sandbox.end("abuse")
    assert after.finished is not None
    assert (after.finished.ending, after.finished.state_lost) == ("ok", False)
    assert "42\n" in after.text
    scene.canaries.check()
    assert scene.health.look() < PATIENCE
    assert scene.own.look() < PATIENCE


def check(ran: Ran, snippet: Snippet) -> None:
    """It came to an end as it should, and the model can read what happened."""
    assert ran.finished is not None
    assert ran.finished.ending in snippet.endings, ran.text
    assert ran.seconds < snippet.seconds + BACKSTOP + 5
    heard = "\n".join([ran.text, *sentences_of(ran.finished, LIMITS)])
    assert "ESCAPED" not in heard
    assert re.search(snippet.says, heard), heard
    assert len(ran.text) <= LIMITS.max_output + 1000
    assert ran.pictures <= LIMITS.max_pictures
    assert len(ran.finished.files) <= LIMITS.max_files
    if snippet.files is not None:
        assert tuple(file.path for file in ran.finished.files) == snippet.files


async def test_there_are_enough_of_them(scene: Scene) -> None:
    assert len(SNIPPETS) >= 60
    assert scene.health.beats > 100


@pytest.mark.parametrize(
    "make",
    [
        "os.symlink('/etc/passwd', 'data.csv')",
        "os.symlink('/proc/self/environ', 'data.csv')",
        "os.symlink('.', 'data.csv')",
        "os.mkfifo('data.csv')",
        "os.mkdir('data.csv')",
        "__import__('socket').socket(1).bind('data.csv')",
        "open('data.csv', 'w').truncate(50 * 1024**2)",
    ],
)
async def test_files_that_are_swapped_are_not_copied_out(scene: Scene, make: str) -> None:
    async with scene.sandbox.session("swapped") as session:
        ran = await run(session, "open('data.csv', 'w').write('1,2')", 20)
        assert ran.finished is not None
        await run(session, f"import os; os.remove('data.csv'); {make}", 20)
        with pytest.raises(SandboxFileRefused):
            await content_of(session, ran.finished.files[0])
        await run(session, "!rm -r data.csv", 20)


async def test_a_file_that_is_swapped_all_the_time_gives_its_own_bytes_or_none(
    scene: Scene,
) -> None:
    code = """
import os, threading
def swap():
    while True:
        for make in lambda: open('new', 'w').write('1,2'), lambda: os.symlink('/etc/hostname', 'new'), lambda: os.mkfifo('new'):
            make()
            os.replace('new', 'data.csv')
threading.Thread(target=swap, daemon=True).start()
"""
    refused = 0
    async with scene.sandbox.session("swapping") as session:
        await run(session, code, 20)
        for _ in range(200):
            try:
                content = await content_of(session, SandboxFile("data.csv", 3))
                assert content in (b"1,2", b"")
            except SandboxFileRefused:
                refused += 1
    await scene.sandbox.end("swapping")
    assert refused > 0


async def content_of(session: Session, file: SandboxFile) -> bytes:
    return b"".join([piece async for piece in session.get(file)])


async def run(session: Session, code: str, seconds: float) -> Ran:
    ran = Ran()
    began = time.monotonic()
    async for output in session.execute(code, seconds=seconds):
        match output:
            case Logs(text):
                ran.text += text
            case Picture():
                ran.pictures += 1
            case Finished():
                ran.finished = output
    ran.seconds = time.monotonic() - began
    return ran


def prepared(code: str, there: Canaries) -> str:
    return f"canary = {there.described()!r}\n{TOOLS}\n{code}"


@contextmanager
def polled(address: str) -> Generator[Pulse]:
    """The time of the server's answers to `GET /healthz`."""
    pulse, over = Pulse(), threading.Event()
    host = urlsplit(address).netloc

    def poll() -> None:
        connection = http.client.HTTPConnection(host, timeout=30)
        while not over.wait(0.02):
            began = time.monotonic()
            connection.request("GET", "/healthz")
            assert connection.getresponse().read() is not None
            pulse.beat(time.monotonic() - began)
        connection.close()

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield pulse
    finally:
        over.set()
        thread.join()


@asynccontextmanager
async def felt() -> AsyncGenerator[Pulse]:
    """How late this process's own event loop is: it is what hears the sandbox."""
    pulse = Pulse()

    async def feel() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.02)
            pulse.beat(time.monotonic() - began - 0.02)

    feeling = asyncio.create_task(feel())
    try:
        yield pulse
    finally:
        feeling.cancel()


def processes_in(ids: set[str]) -> Sequence[Path]:
    """Of containers that should have ended."""
    return [path for path in Path("/proc").glob("[0-9]*/cgroup") if belongs(path, ids)]


def belongs(path: Path, ids: set[str]) -> bool:
    try:
        text = path.read_text()
    except OSError:  # it has ended
        return False
    return any(one in text for one in ids)


def files_of_strangers() -> Sequence[Path]:
    """Of the sandbox's user, where everybody may write."""
    folders = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))
    return [path for folder in folders for path in folder.iterdir() if path.lstat().st_uid == OWNER]
