"""The check that stands behind every test of the suite: it finds what it is for, wherever it is logged, and nothing else."""

import re
import subprocess
import sys
from pathlib import Path

from tests.support.process import environment

ROOT = Path(__file__).parents[1]
SUITE = """
import subprocess
import sys
from collections.abc import Iterator

import httpx2
import pytest
import structlog
from structlog.testing import capture_logs

from tests.support.process import COMMAND

log = structlog.get_logger()
SECRET = "The heliotropes sleep in the amber vault."
PROGRAM = "import sys; print(sys.argv[1], file=sys.stderr)"


async def app(scope, receive, send):
    more = True
    while more:
        more = (await receive())["more_body"]
    json = (b"content-type", b"application/json")
    await send({"type": "http.response.start", "status": 200, "headers": [json]})
    body = b'{"value": "Lanterns are made of brass.", "note": "this model is shown no pictures"}'
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def http():
    headers = {"authorization": "Bearer sk-marmalade"}
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://x", headers=headers) as it:
        await it.post("/", json={"content": [{"text": SECRET}]})
        yield it


async def test_sent(http):
    log.info("said", what=f"so: {SECRET[:20]}")


async def test_told(http):
    log.info("told", nested={"a": ["lanterns", "Lanterns are made of brass."]})


async def test_uploaded(http):
    await http.post("/", files={"file": ("a.txt", b"forty-one lanterns, and one more")})
    log.info("read", begins="forty-one lanterns")


async def test_streamed(http):
    async def pieces() -> Iterator[bytes]:
        yield b"The harbour "
        yield b"master keeps it."

    await http.post("/", content=pieces())
    log.info("The harbour master keeps it.")


async def test_signed_in(http):
    log.info("refused", key="sk-marmalade")


def test_made_a_key():
    log.info("made", key="sk-" + "abcdefghij" * 4)


async def test_captured(http):
    with capture_logs():
        log.info("said", what=SECRET)


async def test_bound(http):
    with structlog.contextvars.bound_contextvars(what=SECRET):
        log.bind(which=1).info("said")


async def test_process(http, tmp_path):
    program = tmp_path / "threadloom"
    program.write_text(PROGRAM)
    subprocess.run([sys.executable, program, SECRET], check=True)


async def test_command(http, monkeypatch):
    monkeypatch.setenv("THREADLOOM_FAULT", SECRET)  # its error names it
    subprocess.run([COMMAND, "db", "upgrade"], check=False)


async def test_process_that_is_not_ours(http):
    subprocess.run([sys.executable, "-c", PROGRAM, SECRET], check=True)


async def test_harmless(http):
    try:
        raise ValueError(SECRET)
    except ValueError:
        log.exception("it broke", route="/v1/threads/{thread_id}", n=7)
    print(SECRET)
"""
HARMLESS = ("test_harmless", "test_process_that_is_not_ours")


def test_whatever_a_test_says_and_has_logged_fails_it(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    (tmp_path / "test_inner.py").write_text(SUITE)
    plugins = ("-p", "tests.support.secrecy", "-p", "no:cacheprovider", "-n", "0")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "--tb=line", *plugins, "test_inner.py"],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(ROOT), PYTEST_ADDOPTS=""),
        capture_output=True,
        text=True,
        check=False,
    )
    every = set(re.findall(r"def (test_\w+)", SUITE))
    assert set(re.findall(r"^PASSED test_inner.py::(\w+)", done.stdout, re.MULTILINE)) == every
    failed = set(re.findall(r"^ERROR test_inner.py::(\w+)", done.stdout, re.MULTILINE))
    assert failed == every - {*HARMLESS}, done.stdout
