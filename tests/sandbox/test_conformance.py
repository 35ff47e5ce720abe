"""What every sandbox does, the double that other tests use included: for it a test says beforehand what the code would do."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from tests.support.engine import sessions
from threadloom.sandbox.session import (
    Finished,
    Logs,
    Output,
    Sandbox,
    SandboxFile,
    SandboxFileRefused,
    SandboxLost,
    SandboxUnavailable,
    Session,
)
from threadloom.testing import FakeSandbox, Writes
from threadloom.testing.sandbox import Step


@dataclass(frozen=True)
class Stage:
    """A sandbox, and where to say what the next cell does if nothing is really run in it."""

    sandbox: Sandbox
    then: Callable[..., None]


@pytest.fixture(params=["fake", pytest.param("docker", marks=pytest.mark.docker)])
async def stage(request: pytest.FixtureRequest) -> AsyncGenerator[Stage]:
    if request.param == "fake":
        fake = FakeSandbox()
        yield Stage(fake, fake.then)
        return
    async with sessions() as sandbox:
        yield Stage(sandbox, do_nothing)


def do_nothing(*_: Step) -> None:
    """Real code does it."""


async def ran(session: Session, code: str) -> tuple[str, Finished]:
    """A cell's whole text, and its end."""
    outputs = [output async for output in session.execute(code, seconds=20)]
    finished = outputs.pop()
    assert isinstance(finished, Finished)
    return "".join(each.text for each in outputs if isinstance(each, Logs)), finished


async def content(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def read(session: Session, file: SandboxFile) -> bytes:
    return b"".join([piece async for piece in session.get(file)])


async def test_a_cell_gives_its_output_and_then_its_end(stage: Stage) -> None:
    stage.then(Logs("a\n2\n"))
    async with stage.sandbox.session("thread_a") as session:
        assert await ran(session, "print('a')\n1+1") == ("a\n2\n", Finished("ok"))


async def test_a_session_is_kept_and_is_fresh_only_at_first(stage: Stage) -> None:
    for fresh in (True, False):
        async with stage.sandbox.session("thread_a") as session:
            assert session.fresh is fresh
            await ran(session, "pass")
    assert list(await stage.sandbox.keys()) == ["thread_a"]


async def test_a_session_in_which_nothing_was_executed_is_not_kept(stage: Stage) -> None:
    async with stage.sandbox.session("thread_a") as session:
        await session.put("a.txt", 1, content(b"a"))
    assert list(await stage.sandbox.keys()) == []
    async with stage.sandbox.session("thread_a") as session:
        assert list(await session.files()) == []


async def test_files_that_are_put_are_there_and_come_out_again(stage: Stage) -> None:
    async with stage.sandbox.session("thread_a") as session:
        await session.put("data/a.bin", 6, content(b"abc", b"def"))
        await session.put("empty", 0, content())
        await session.put("data/a.bin", 4, content(b"wxyz"))
        file, empty = SandboxFile("data/a.bin", 4), SandboxFile("empty", 0)
        assert list(await session.files()) == [file, empty]
        assert await read(session, file) == b"wxyz"
        assert await read(session, empty) == b""


async def test_the_end_names_the_files_that_the_cell_wrote(stage: Stage) -> None:
    stage.then(Writes("out.csv", b"1,2\n"))
    async with stage.sandbox.session("thread_a") as session:
        await session.put("in.csv", 1, content(b"1"))
        _, finished = await ran(session, "open('out.csv', 'w').write('1,2\\n');")
        assert finished.files == (SandboxFile("out.csv", 4),)
        assert await read(session, finished.files[0]) == b"1,2\n"
        assert [file.path for file in await session.files()] == ["in.csv", "out.csv"]


async def test_what_a_cell_wrote_that_was_left_is_named_by_the_next(stage: Stage) -> None:
    async with stage.sandbox.session("thread_a") as session:
        stage.then(Writes("out.csv", b"1"))
        code = "open('out.csv', 'w').write('1');"
        outputs = [each async for each in session.execute(code, seconds=20, call="a")]
        written = SandboxFile("out.csv", 1)
        assert Finished("ok", files=(written,)) in outputs
        assert await read(session, written) == b"1"
        stage.then(Writes("out.csv", b"22"), Logs("a\n"), asyncio.Event())
        code = "open('out.csv', 'w').write('22')\nprint('a', flush=True)\nwhile True: pass"
        cell = session.execute(code, seconds=60, call="b", kept="a")
        async with aclosing(cell) as left:
            assert await anext(left) == Logs("a\n")
        for call in ("c", "d"):
            cell = session.execute("pass", seconds=20, call=call, kept="a")
            written = SandboxFile("out.csv", 2)
            assert [each async for each in cell] == [Finished("ok", files=(written,))]
            assert await read(session, written) == b"22"
        cell = session.execute("pass", seconds=20, call="e", kept="d")
        assert [each async for each in cell] == [Finished("ok")]


async def test_what_was_not_taken_out_is_named_by_the_next(stage: Stage) -> None:
    async with stage.sandbox.session("thread_a") as session:
        stage.then(Writes("a", b"1"), Writes("b", b"22"))
        code = "open('a', 'w').write('1')\nopen('b', 'w').write('22');"
        outputs = [each async for each in session.execute(code, seconds=20, call="a")]
        a, b = SandboxFile("a", 1), SandboxFile("b", 2)
        assert outputs == [Finished("ok", files=(a, b))]
        assert await read(session, a) == b"1"
        cell = session.execute("pass", seconds=20, call="b", kept="a")
        assert [each async for each in cell] == [Finished("ok", files=(b,))]


async def test_a_second_name_is_no_second_file(stage: Stage) -> None:
    async with stage.sandbox.session("thread_a") as session:
        await session.put("a.txt", 1, content(b"a"))
        await session.link("file-1", "a.txt")
        assert [file.path for file in await session.files()] == ["a.txt"]
        await session.remove("file-1")
        assert [file.path for file in await session.files()] == ["a.txt"]
        for _ in range(2):
            await session.remove("a.txt")
        assert list(await session.files()) == []


@pytest.mark.parametrize("file", [SandboxFile("none", 1), SandboxFile("a.txt", 5)])
async def test_a_file_that_is_gone_or_has_changed_is_refused(
    stage: Stage, file: SandboxFile
) -> None:
    async with stage.sandbox.session("thread_a") as session:
        await session.put("a.txt", 1, content(b"a"))
        with pytest.raises(SandboxFileRefused):
            await read(session, file)
        assert await read(session, SandboxFile("a.txt", 1)) == b"a"


async def test_a_cell_that_takes_too_long_ends_with_timeout(stage: Stage) -> None:
    stage.then(asyncio.Event())
    async with stage.sandbox.session("thread_a") as session:
        outputs = [each async for each in session.execute("while True: pass", seconds=0.2)]
    assert isinstance(outputs[-1], Finished)
    assert outputs[-1].ending == "timeout"


async def test_a_cell_that_is_left_leaves_the_session_usable(stage: Stage) -> None:
    stage.then(Logs("a\n"), asyncio.Event())
    code = "print('a', flush=True)\nwhile True: pass"
    async with (
        stage.sandbox.session("thread_a") as session,
        aclosing(session.execute(code, seconds=60)) as outputs,
    ):
        assert await anext(outputs) == Logs("a\n")
    stage.then(Logs("2\n"))
    async with stage.sandbox.session("thread_a") as session:
        assert not session.fresh
        assert await ran(session, "1+1") == ("2\n", Finished("ok"))


async def test_one_caller_at_a_time_has_a_key(stage: Stage) -> None:
    order: list[str] = []

    async def second() -> None:
        async with stage.sandbox.session("thread_a"):
            order.append("second")

    async with stage.sandbox.session("thread_a") as session:
        waiting = asyncio.create_task(second())
        await ran(session, "pass")
        async with stage.sandbox.session("thread_b"):
            order.append("other key")
        order.append("first")
    await waiting
    assert order == ["other key", "first", "second"]


async def test_ending_a_key_loses_the_session_under_its_user(stage: Stage) -> None:
    stage.then(Logs("a\n"), asyncio.Event())
    code = "print('a', flush=True)\nwhile True: pass"
    async with stage.sandbox.session("thread_a") as session:
        outputs: AsyncIterator[Output] = session.execute(code, seconds=60)
        assert await anext(outputs) == Logs("a\n")
        await stage.sandbox.end("thread_a")
        with pytest.raises(SandboxLost):
            await anext(outputs)
        with pytest.raises(SandboxLost):
            await session.files()
    async with stage.sandbox.session("thread_a") as session:
        assert session.fresh


async def test_closing_ends_all(stage: Stage) -> None:
    for key in ("thread_a", "thread_b"):
        async with stage.sandbox.session(key) as session:
            await ran(session, "pass")
    await stage.sandbox.close()
    assert list(await stage.sandbox.keys()) == []


async def test_the_double_raises_what_it_is_told_to() -> None:
    fake = FakeSandbox()
    fake.then(Logs("a"), SandboxLost("Gone."))
    fake.refuses("big.bin", "There is no room for it.")
    async with fake.session("thread_a") as session:
        with pytest.raises(SandboxFileRefused, match="There is no room"):
            await session.put("big.bin", 1, content(b"a"))
        with pytest.raises(SandboxLost, match="Gone"):
            await ran(session, "pass")
    fake.unavailable = "There is no engine."
    with pytest.raises(SandboxUnavailable, match="no engine"):
        await fake.session("thread_a").__aenter__()


async def test_the_double_tells_what_was_executed_and_what_was_left() -> None:
    fake = FakeSandbox()
    fake.then(Logs("a"), asyncio.Event())
    async with fake.session("thread_a") as session:
        async with aclosing(session.execute("first", seconds=1)) as outputs:
            await anext(outputs)
        await ran(session, "second")
    assert [cell.code for cell in fake.cells] == ["first", "second"]
    assert [cell.code for cell in fake.left] == ["first"]
