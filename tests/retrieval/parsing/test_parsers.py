"""Parsers as processes: they are reused, they end when they should, and what breaks one is not felt by the next."""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest

from tests.retrieval.parsing.processes import children, ended, told
from tests.retrieval.parsing.reading import DEFAULT, Reader, text_of
from threadloom.config import FileSearch
from threadloom.retrieval.parsing import Parsed, ParserUnavailable, UnreadableFile
from threadloom.retrieval.parsing.parsers import Parsers

OWNER = """
import asyncio, sys
from pathlib import Path
from tests.retrieval.parsing.processes import children
from tests.retrieval.parsing.reading import Reader
from threadloom.config import FileSearch
from threadloom.retrieval.parsing.parsers import Parsers

async def main():
    reader = Reader(Parsers(FileSearch()))
    await reader.chunks(Path(sys.argv[1]))
    print(*children(), flush=True)
    if len(sys.argv) > 2:
        await reader.chunks(Path(sys.argv[2]))
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def note(tmp_path: Path) -> Path:
    path = tmp_path / "note.txt"
    path.write_text("Bees dance.\r\nThey show the way.\0")
    return path


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Takes a while to read."""
    path = tmp_path / "book.txt"
    path.write_text("".join(f"Bee {n} is the sister of bee {n + 7}.\n" for n in range(30_000)))
    return path


async def test_a_text_is_read(reader: Reader, note: Path) -> None:
    [chunk] = await reader.chunks(note)
    assert chunk.text == "Bees dance.\nThey show the way."
    assert (chunk.start, chunk.end, chunk.page, chunk.heading) == (0, 30, None, None)
    assert chunk.terms


async def test_the_same_document_gives_the_same_chunks(reader: Reader, book: Path) -> None:
    once, again = await asyncio.gather(reader.chunks(book), reader.chunks(book))
    assert len(once) > 500
    assert once == again
    text = read(book)
    assert all(c.text == text[c.start : c.end] for c in once)


async def test_progress_goes_from_nothing_to_all(reader: Reader, book: Path) -> None:
    progress = [p.progress async for p in reader.parsers.parse(book, book.name, DEFAULT)]
    assert progress == sorted(progress)
    assert 0 < progress[0] < 0.3
    assert progress[-1] == pytest.approx(1, abs=0.01)


async def test_an_empty_file_fails_as_it_did_at_openai(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "empty.txt"
    path.touch()
    failure = await reader.failure(path)
    assert failure.code == "invalid_file"
    assert failure.message == "The file could not be parsed because it is empty."


async def test_a_file_that_is_not_there_is_the_servers_fault(
    reader: Reader, tmp_path: Path
) -> None:
    failure = await reader.failure(tmp_path / "gone.txt")
    assert failure.code == "server_error"
    assert failure.message == "The file could not be read. Try again later."


async def test_a_process_reads_one_document_after_the_other(
    reader: Reader, note: Path, tmp_path: Path
) -> None:
    before = children()
    bad = tmp_path / "bad.pdf"
    bad.write_bytes(b"no pdf")
    await reader.chunks(note)
    started = children() - before
    assert "it is no PDF" in (await reader.failure(bad)).message
    await reader.chunks(note)
    assert children() - before == started
    assert len(started) == 1


async def test_no_more_processes_are_started_than_the_settings_say(
    reader: Reader, note: Path
) -> None:
    before = children()
    await asyncio.gather(*(reader.chunks(note) for _ in range(20)))
    assert len(children() - before) == 2


async def test_a_process_that_died_while_it_waited_is_replaced(reader: Reader, note: Path) -> None:
    before = children()
    await reader.chunks(note)
    [pid] = children() - before
    os.kill(pid, signal.SIGKILL)
    await ended(pid)
    assert text_of(await reader.chunks(note))


async def test_a_crash_fails_the_document_and_nothing_else(
    reader: Reader, note: Path, book: Path
) -> None:
    before = children()
    groups = reader.parsers.parse(book, book.name, DEFAULT)
    await anext(groups)
    [pid] = children() - before
    os.kill(pid, signal.SIGSEGV)
    with pytest.raises(UnreadableFile, match="makes the parser fail") as caught:
        await rest(groups)
    assert caught.value.code == "invalid_file"
    assert text_of(await reader.chunks(note))


def read(path: Path) -> str:
    return path.read_text()


async def rest(groups: AsyncGenerator[Parsed]) -> None:
    async for _ in groups:
        pass


async def test_a_document_that_takes_too_long_fails(book: Path, note: Path) -> None:
    before = children()
    parsers = Parsers(FileSearch(parser_timeout=0.05))
    failure = await Reader(parsers).failure(book)
    assert failure.code == "invalid_file"
    assert "could not be parsed within 0.05 seconds. Split it" in failure.message
    assert children() == before
    assert text_of(await Reader(parsers).chunks(note))
    await parsers.close()


async def test_time_does_not_run_while_chunks_are_worked_on(book: Path) -> None:
    parsers = Parsers(FileSearch(parser_timeout=3))
    clock = asyncio.get_running_loop().time
    async with aclosing(parsers.parse(book, book.name, DEFAULT)) as groups:
        chunks = (await anext(groups)).chunks
        since = clock()
        while clock() - since < 3.2:
            await asyncio.to_thread(hashlib.pbkdf2_hmac, "sha256", b"", b"", 100_000)
        async for parsed in groups:
            chunks += parsed.chunks
    assert len(chunks) > 500
    await parsers.close()


async def test_leaving_early_ends_the_process(reader: Reader, note: Path, book: Path) -> None:
    before = children()
    async with aclosing(reader.parsers.parse(book, book.name, DEFAULT)) as groups:
        await anext(groups)
    assert children() == before
    assert text_of(await reader.chunks(note))


async def test_cancellation_ends_the_process(reader: Reader, note: Path, book: Path) -> None:
    before = children()
    await reader.chunks(note)
    reading = asyncio.ensure_future(reader.chunks(book))
    await asyncio.wait([reading], timeout=0.1)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert children() == before


async def test_a_process_without_work_ends(note: Path) -> None:
    before = children()
    parsers = Parsers(FileSearch(), idle=0.05)
    await Reader(parsers).chunks(note)
    for pid in children() - before:
        await ended(pid)
    assert text_of(await Reader(parsers).chunks(note))
    await parsers.close()


async def test_closing_ends_all_processes(note: Path) -> None:
    before = children()
    parsers = Parsers(FileSearch())
    await asyncio.gather(*(Reader(parsers).chunks(note) for _ in range(4)))
    assert children() > before
    await parsers.close()
    assert children() == before


async def test_closing_does_not_fail_the_document_that_is_read(book: Path) -> None:
    parsers = Parsers(FileSearch())
    groups = parsers.parse(book, book.name, DEFAULT)
    await anext(groups)
    await parsers.close()
    with pytest.raises(asyncio.CancelledError):
        await rest(groups)


async def test_a_signal_to_all_processes_does_not_fail_the_document(
    reader: Reader, book: Path
) -> None:
    before = children()
    groups = reader.parsers.parse(book, book.name, DEFAULT)
    await anext(groups)
    [pid] = children() - before
    for ending in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, ending)
    await rest(groups)


@pytest.mark.parametrize("busy", [False, True])
async def test_no_process_outlives_an_owner_that_was_killed(
    busy: bool, note: Path, book: Path
) -> None:
    command = [sys.executable, "-c", OWNER, str(note), *([str(book)] * busy)]
    owner = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    pid = int(await owner.stdout.readline())
    owner.kill()
    await owner.wait()
    await ended(pid)


async def test_a_parser_is_told_no_secrets(
    reader: Reader, note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THREADLOOM_AUTH__ADMIN_KEY", "sk-secret")
    before = children()
    await reader.chunks(note)
    [pid] = children() - before
    assert "secret" not in told(pid, "environ")


async def test_a_parser_has_limits(reader: Reader, note: Path) -> None:
    before = children()
    await reader.chunks(note)
    [pid] = children() - before
    limits = told(pid, "limits")
    bound = int(limits.split("Max address space")[1].split()[0])
    assert bound < 2 * 1024**3
    assert limits.split("Max file size")[1].split()[:2] == ["0", "0"]
    assert "Seccomp:\t2" in told(pid, "status")
    assert os.getpriority(os.PRIO_PROCESS, pid) >= 10


async def test_a_parser_works_with_the_least_memory(note: Path) -> None:
    parsers = Parsers(FileSearch(parser_memory=128 * 1024**2))
    assert text_of(await Reader(parsers).chunks(note))
    await parsers.close()


async def test_a_parser_that_cannot_start_is_the_servers_fault(
    note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ParserUnavailable, match=r"could not start a parser\. Try again later\."):
        await Reader(Parsers(FileSearch())).chunks(note)
