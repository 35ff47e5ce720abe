"""The runner: sandboxes that another process holds, and what becomes of them when either side ends."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.sandbox import test_conformance as conformance
from tests.sandbox.puppets import PuppetLauncher
from tests.sandbox.test_conformance import Stage, do_nothing, ran
from tests.support.engine import remaining, sessions, small
from tests.support.runner import folder, running, started
from threadloom.config import CodeInterpreter
from threadloom.errors import StartError
from threadloom.sandbox import runner
from threadloom.sandbox.docker import Docker
from threadloom.sandbox.frames import Message, packed
from threadloom.sandbox.remote import RemoteSandbox, close
from threadloom.sandbox.runner import listening
from threadloom.sandbox.session import Finished, Logs, SandboxLost, SandboxUnavailable
from threadloom.sandbox.sessions import Sessions
from threadloom.sandbox.visits import line_of, next_line

__all__ = ["folder"]

docker = pytest.mark.docker
# Processes and sandboxes take their time on a busy machine.
pytestmark = pytest.mark.timeout(180)
ENDLESS = "print('a', flush=True)\nwhile True: pass"


def unix(folder: Path, **runner: str) -> CodeInterpreter:
    return small(runner={"url": f"unix://{folder}/sandbox.sock", **runner})


@pytest.fixture
async def relayed(folder: Path) -> AsyncGenerator[RemoteSandbox]:
    settings = unix(folder)
    async with sessions(settings) as lender, running(lender, settings):
        yield RemoteSandbox(settings)


BEHAVIOURS = [
    conformance.test_a_cell_gives_its_output_and_then_its_end,
    conformance.test_a_session_is_kept_and_is_fresh_only_at_first,
    conformance.test_a_session_in_which_nothing_was_executed_is_not_kept,
    conformance.test_files_that_are_put_are_there_and_come_out_again,
    conformance.test_the_end_names_the_files_that_the_cell_wrote,
    conformance.test_a_second_name_is_no_second_file,
    conformance.test_a_cell_that_takes_too_long_ends_with_timeout,
    conformance.test_a_cell_that_is_left_leaves_the_session_usable,
    conformance.test_one_caller_at_a_time_has_a_key,
    conformance.test_ending_a_key_loses_the_session_under_its_user,
]


@docker
@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda test: test.__name__)
async def test_it_does_what_every_sandbox_does(
    behaviour: Callable[[Stage], Awaitable[None]], relayed: RemoteSandbox
) -> None:
    await behaviour(Stage(relayed, do_nothing))


@docker
async def test_variables_survive_from_one_worker_to_the_next(folder: Path) -> None:
    settings = unix(folder)
    with started(folder, str(settings.runner.url)) as runner:
        async with RemoteSandbox(settings).session("thread_a") as session:
            await ran(session, "x = 41")
        second = RemoteSandbox(settings)
        async with second.session("thread_a") as session:
            assert not session.fresh
            assert await ran(session, "x + 1") == ("42\n", Finished("ok"))
        assert list(await second.keys()) == ["thread_a"]
        await second.end("thread_a")
        assert list(await second.keys()) == []
        async with second.session("thread_a") as session:
            assert session.fresh
    assert not await remaining(settings, runner.name)


WORKER = """
import asyncio, sys
from threadloom.config import CodeInterpreter
from threadloom.sandbox.remote import RemoteSandbox, close

async def work():
    sandbox = RemoteSandbox(CodeInterpreter(runner={"url": sys.argv[1]}))
    async with sandbox.session("thread_a") as session:
        async for output in session.execute(sys.argv[2], seconds=60):
            print("began", flush=True)

asyncio.run(work())
"""


@docker
async def test_what_a_killed_worker_left_running_ends(folder: Path) -> None:
    settings = unix(folder)
    url = str(settings.runner.url)
    with started(folder, url) as runner:
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WORKER, url, ENDLESS), stdout=asyncio.subprocess.PIPE
        )
        assert worker.stdout is not None
        assert await worker.stdout.readline() == b"began\n"
        worker.kill()
        await worker.wait()
        assert not await remaining(settings, runner.name)
        async with RemoteSandbox(settings).session("thread_a") as session:
            assert session.fresh
            assert await ran(session, "1+1") == ("2\n", Finished("ok"))


@docker
async def test_a_frozen_visitor_does_not_keep_the_key(folder: Path) -> None:
    settings = unix(folder)
    async with sessions(settings) as lender, running(lender, settings, quiet=5.0):
        sandbox = RemoteSandbox(settings)
        async with sandbox.session("thread_a") as session:
            await ran(session, "x = 1")
        reader, writer = await asyncio.open_unix_connection(f"{folder}/sandbox.sock")
        writer.write(line_of({"op": "session", "key": "thread_a", "token": None}))
        assert await next_line(reader, 10) == {"fresh": False}
        async with asyncio.timeout(20), sandbox.session("thread_a") as session:
            assert await ran(session, "x") == ("1\n", Finished("ok"))
        await close(writer)


@docker
async def test_whoever_stops_waiting_does_not_get_the_key_later(folder: Path) -> None:
    settings = unix(folder)
    async with sessions(settings) as lender, running(lender, settings):
        sandbox = RemoteSandbox(settings)
        async with sandbox.session("thread_a") as session:
            await ran(session, "x = 1")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2), sandbox.session("thread_a"):
                    pytest.fail("two have it")
        async with asyncio.timeout(30), sandbox.session("thread_a") as session:
            assert await ran(session, "x") == ("1\n", Finished("ok"))


@docker
async def test_a_killed_runner_takes_its_sandboxes_along_and_the_next_one_works(
    folder: Path,
) -> None:
    settings = unix(folder)
    sandbox = RemoteSandbox(settings)
    with started(folder, str(settings.runner.url)) as runner:
        async with sandbox.session("thread_a") as session:
            async with aclosing(session.execute(ENDLESS, seconds=60)) as outputs:
                assert await anext(outputs) == Logs("a\n")
                runner.process.kill()
                with pytest.raises(SandboxLost):
                    await anext(outputs)
            with pytest.raises(SandboxLost):
                await session.files()
    with pytest.raises(SandboxUnavailable, match=r"^The sandbox runner at unix:///\S+ does not"):
        await sandbox.session("thread_a").__aenter__()
    assert not await remaining(settings, runner.name)
    with started(folder, str(settings.runner.url)):
        async with sandbox.session("thread_a") as session:
            assert session.fresh
            assert await ran(session, "1+1") == ("2\n", Finished("ok"))


@docker
async def test_a_runner_that_is_told_to_stop_leaves_nothing(folder: Path) -> None:
    settings = unix(folder)
    with started(folder, str(settings.runner.url)) as runner:
        async with RemoteSandbox(settings).session("thread_a") as session:
            await ran(session, "x = 1")
            runner.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(runner.process.wait, 20) == 0
            with pytest.raises(SandboxLost):
                await ran(session, "x")
    assert not await remaining(settings, runner.name, seconds=0)
    assert not (await asyncio.to_thread(os.listdir, folder))


@docker
async def test_a_token_opens_a_runner_on_tcp(folder: Path, unused_tcp_port: int) -> None:
    url = f"tcp://127.0.0.1:{unused_tcp_port}"
    settings = small(runner={"url": url, "token": "right"})
    with started(folder, url, "right"):
        async with RemoteSandbox(settings).session("thread_a") as session:
            assert await ran(session, "1+1") == ("2\n", Finished("ok"))


def lender(settings: CodeInterpreter) -> Sessions:
    """For visits in which no sandbox is reached."""
    return Sessions(settings, Docker(settings))


@pytest.mark.parametrize("token", [{}, {"token": "wrong"}, {"token": ""}])
async def test_a_wrong_token_opens_nothing(folder: Path, token: dict[str, str]) -> None:
    settings = unix(folder, token="right")
    async with running(lender(settings), settings):
        sandbox = RemoteSandbox(unix(folder, **token))
        for visit in (sandbox.session("a").__aenter__(), sandbox.keys(), sandbox.end("a")):
            with pytest.raises(SandboxUnavailable, match="has another token"):
                await visit


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:8485", "tcp://0.0.0.0:8485", "tcp://[::]:8485"])
def test_it_does_not_listen_on_tcp_without_a_token(url: str) -> None:
    runner = CodeInterpreter.model_validate({"runner": {"url": url}}).runner
    with pytest.raises(StartError, match="anybody can reach"), listening(runner):
        pass


@pytest.mark.parametrize("url", ["tcp://", "tcp://127.0.0.1", "tcp://h:x", "unix:///proc/no/sock"])
def test_an_address_that_cannot_be_is_one_sentence(url: str) -> None:
    runner = CodeInterpreter.model_validate({"runner": {"url": url, "token": "t"}}).runner
    with pytest.raises(StartError, match=f"^Cannot listen on {url}: "), listening(runner):
        pass


def test_only_its_user_may_open_the_socket_and_only_one_listens(folder: Path) -> None:
    runner = unix(folder).runner
    path = folder / "sandbox.sock"
    with listening(runner):
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(StartError, match="another process listens there"), listening(runner):
            pass
        assert path.exists()
    assert not path.exists()


HELLOS = [
    b"\xff\xfe\n",
    b"[1]\n",
    b"[" * 50_000 + b"\n",
    b'{"op": "session"}\n',
    b'{"op": "session", "key": ""}\n',
    b'{"op": "session", "key": "\\ud800"}\n',
    b'{"op": "session", "key": "' + b"k" * 300 + b'"}\n',
    b'{"op": "end", "key": 1}\n',
    b'{"op": "close"}\n',
    b"x" * 1_000_000,
    b"",
]


@pytest.mark.parametrize("hello", HELLOS, ids=lambda hello: repr(hello[:30]))
async def test_nonsense_is_refused_and_others_are_served(folder: Path, hello: bytes) -> None:
    settings = unix(folder)
    async with running(lender(settings), settings):
        reader, writer = await asyncio.open_unix_connection(f"{folder}/sandbox.sock")
        writer.write(hello)
        writer.write_eof()
        try:
            answer = await reader.read()
        except ConnectionError:
            answer = b""
        assert not answer or set(json.loads(answer)) == {"error"}
        await close(writer)
        assert list(await RemoteSandbox(settings).keys()) == []


@pytest.mark.parametrize(("said", "logged"), [(b"", 0), (b"[1]\n", 1)], ids=["nothing", "nonsense"])
async def test_health_checks_come_and_go_unlogged(folder: Path, said: bytes, logged: int) -> None:
    settings = unix(folder)
    with capture_logs() as logs:
        async with running(lender(settings), settings):
            reader, writer = await asyncio.open_unix_connection(f"{folder}/sandbox.sock")
            writer.write(said)
            writer.write_eof()
            with suppress(ConnectionError):
                await reader.read()
            await close(writer)
    assert [one["event"] for one in logs].count("sandbox visitor gone") == logged


class Slow(Sessions):
    """Says whose sessions it has when it is let."""

    def __init__(self, settings: CodeInterpreter) -> None:
        super().__init__(settings, Docker(settings))
        self.let = asyncio.Event()
        self.asked = asyncio.Semaphore(0)

    async def keys(self) -> Sequence[str]:
        self.asked.release()
        await self.let.wait()
        return []


async def test_two_servers_on_one_runner_do_not_see_each_other_s_sessions(folder: Path) -> None:
    settings = unix(folder)
    lender = Sessions(settings, PuppetLauncher(settings))
    async with running(lender, settings):
        servers = RemoteSandbox(settings), RemoteSandbox(settings)
        for server, key in zip(servers, ("thread_a", "thread_b"), strict=True):
            async with server.session(key) as session:
                assert [output async for output in session.execute("1", seconds=5)]
        assert sorted(await lender.keys()) == ["thread_a", "thread_b"]
        assert list(await servers[0].keys()) == ["thread_a"]
        await servers[0].end("thread_a")
        assert list(await servers[0].keys()) == []
        assert list(await servers[1].keys()) == ["thread_b"]
    await lender.close()


async def test_the_number_of_visitors_is_bounded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "MAX_VISITS", 2)
    settings = unix(folder)
    slow = Slow(settings)
    async with running(slow, settings):
        sandbox = RemoteSandbox(settings)
        visits = [asyncio.create_task(sandbox.keys()) for _ in range(2)]
        for _ in visits:
            await slow.asked.acquire()
        with pytest.raises(SandboxUnavailable, match="too many visitors"):
            await sandbox.keys()
        slow.let.set()
        assert await asyncio.gather(*visits) == [[], []]
        assert list(await sandbox.keys()) == []


async def test_strangers_keep_nobody_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "MAX_STRANGERS", 4)
    monkeypatch.setattr(runner, "MAX_VISITS", 4)
    settings = unix(folder, token="right")
    async with running(lender(settings), settings):
        path = f"{folder}/sandbox.sock"
        strangers = [await asyncio.open_unix_connection(path) for _ in range(8)]
        assert list(await RemoteSandbox(settings).keys()) == []
        for reader, _ in strangers[:4]:
            with suppress(ConnectionError):
                assert await reader.read() == b""
        await asyncio.gather(*(close(writer) for _, writer in strangers))


async def test_a_hello_is_the_first_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "HELLO_SECONDS", 0.3)
    settings = unix(folder)
    async with running(lender(settings), settings):
        for said in (b"\n", b'{"op"'):
            reader, writer = await asyncio.open_unix_connection(f"{folder}/sandbox.sock")
            writer.write(said)
            async with asyncio.timeout(30):
                assert await reader.read() == b""
            await close(writer)


FORGED: list[Message] = [
    {"op": "claim", "id": "1", "idle": 1e9, "life": 1e9},
    {"op": "exec", "id": "1", "code": "1", "seconds": None},
    {"ev": "done", "id": "1"},
]


@docker
@pytest.mark.parametrize("request_", FORGED, ids=lambda request: str(request)[:20])
async def test_a_visitor_can_ask_for_no_more_than_a_cell_and_files(
    folder: Path, request_: Message
) -> None:
    settings = unix(folder)
    async with sessions(settings) as own, running(own, settings):
        reader, writer = await asyncio.open_unix_connection(f"{folder}/sandbox.sock")
        writer.write(line_of({"op": "session", "key": "thread_a", "token": None}))
        await reader.readline()
        writer.write(packed(request_))
        assert b"done" not in await reader.read()
        await close(writer)
