"""Sandboxes in containers: code is really run here."""

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import docker
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.support.engine import MIB, containers, remaining, sessions, small
from threadloom.config import CodeInterpreter
from threadloom.sandbox import engine
from threadloom.sandbox.docker import Demultiplexed, Docker
from threadloom.sandbox.engine import Container, Engine, started_by
from threadloom.sandbox.session import (
    Finished,
    Logs,
    Output,
    Picture,
    SandboxFile,
    SandboxFileRefused,
    SandboxLost,
    SandboxUnavailable,
    Session,
)
from threadloom.sandbox.sessions import Sessions
from threadloom.testing import FrozenClock

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]
IGNORING = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
BUSY = "while True: pass"


@pytest.fixture
async def sandbox() -> AsyncGenerator[Sessions]:
    async with sessions() as opened:
        yield opened


async def outputs_of(session: Session, code: str, seconds: float = 30) -> list[Output]:
    return [output async for output in session.execute(code, seconds=seconds)]


async def ran(session: Session, code: str, seconds: float = 30) -> tuple[str, Finished]:
    outputs = await outputs_of(session, code, seconds)
    finished = outputs.pop()
    assert isinstance(finished, Finished)
    return "".join(each.text for each in outputs if isinstance(each, Logs)), finished


async def value(session: Session, expression: str) -> str:
    text, finished = await ran(session, expression)
    assert finished.ending == "ok", text
    return text.strip()


async def only(settings: CodeInterpreter) -> Container:
    (container,) = await containers(settings)
    return container


@asynccontextmanager
async def client() -> AsyncGenerator[Any]:
    """The engine, for what our own code does not ask it."""
    api: Any = docker.from_env(version="auto").api
    try:
        yield api
    finally:
        api.close()


async def test_variables_imports_and_functions_survive(sandbox: Sessions) -> None:
    async with sandbox.session("thread_a") as session:
        await ran(session, "import math\nx = 20\ndef double(n): return 2 * n")
    async with sandbox.session("thread_a") as session:
        assert await value(session, "double(x) + math.floor(2.5)") == "42"


async def test_a_plot_comes_as_a_picture(sandbox: Sessions) -> None:
    async with sandbox.session("thread_a") as session:
        code = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()"
        outputs = await outputs_of(session, code)
    pictures = [output for output in outputs if isinstance(output, Picture)]
    assert [picture.media_type for picture in pictures] == ["image/png"]
    assert len(pictures[0].content) > 1000


async def test_a_cell_that_takes_too_long_keeps_what_was_there(sandbox: Sessions) -> None:
    async with sandbox.session("thread_a") as session:
        await ran(session, "x = 1")
        text, finished = await ran(session, BUSY, seconds=1)
        assert finished == Finished("timeout")
        assert "KeyboardInterrupt" in text
        assert await value(session, "x") == "1"


async def test_a_cell_that_cannot_be_interrupted_costs_the_variables_but_no_files(
    sandbox: Sessions,
) -> None:
    async with sandbox.session("thread_a") as session:
        await ran(session, "x = 1\nopen('a.txt', 'w').write('a')")
        _, finished = await ran(session, IGNORING + BUSY, seconds=1)
        assert (finished.ending, finished.state_lost) == ("timeout", True)
        assert await value(session, "'x' in dir(), open('a.txt').read()") == "(False, 'a')"


async def test_a_cell_that_takes_all_memory_is_ended_and_the_next_one_works(
    sandbox: Sessions,
) -> None:
    async with sandbox.session("thread_a") as session:
        _, finished = await ran(session, "x = [bytearray(1024**2) for _ in range(4000)]")
        assert (finished.ending, finished.state_lost) == ("out_of_memory", True)
        assert await value(session, "1+1") == "2"


async def test_a_cell_may_end_its_own_process(sandbox: Sessions) -> None:
    async with sandbox.session("thread_a") as session:
        _, finished = await ran(session, "import os; os._exit(3)")
        assert (finished.ending, finished.state_lost) == ("died", True)
        assert await value(session, "1+1") == "2"


async def megabytes(number: int) -> AsyncIterator[bytes]:
    for index in range(number):
        yield bytes([index]) * 10**6


async def test_fifty_megabytes_go_in_and_come_out(sandbox: Sessions) -> None:
    whole = hashlib.sha256(b"".join([piece async for piece in megabytes(50)])).hexdigest()
    async with sandbox.session("thread_a") as session:
        await session.put("data.bin", 50 * 10**6, megabytes(50))
        code = "import hashlib; hashlib.sha256(open('data.bin', 'rb').read()).hexdigest()"
        assert await value(session, code) == f"'{whole}'"
        digest = hashlib.sha256()
        async for piece in session.get(SandboxFile("data.bin", 50 * 10**6)):
            digest.update(piece)
    assert digest.hexdigest() == whole


async def test_a_file_for_which_there_is_no_room_is_refused(sandbox: Sessions) -> None:
    async with sandbox.session("thread_a") as session:
        await ran(session, "open('ballast', 'wb').write(bytes(40 * 1024**2))")
        with pytest.raises(SandboxFileRefused, match="no room"):
            await session.put("data.bin", 30 * 10**6, megabytes(30))
        assert [file.path for file in await session.files()] == ["ballast"]
        assert await value(session, "1+1") == "2"


async def test_a_file_that_is_given_up_half_way_leaves_nothing(sandbox: Sessions) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"abc"
        raise OSError("no storage")

    async with sandbox.session("thread_a") as session:
        await ran(session, "x = 1")
        with pytest.raises(OSError, match="no storage"):
            await session.put("data.bin", 6, failing())
        assert list(await session.files()) == []
        assert await value(session, "x") == "1"


async def cpu(api: Any, container: str) -> int:
    """Nanoseconds."""
    stats = await asyncio.to_thread(api.stats, container, stream=False, one_shot=True)
    return int(stats["cpu_stats"]["cpu_usage"]["total_usage"])


async def cpu_of_a_second(api: Any, container: str) -> int:
    before = await cpu(api, container)
    await asyncio.sleep(1)
    return await cpu(api, container) - before


@pytest.mark.parametrize(
    "code",
    [
        BUSY,
        IGNORING + BUSY,
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'while True: pass'])",
        "import threading\nthreading.Thread(target=sum, args=[iter(int, 1)]).start()\n" + BUSY,
    ],
)
async def test_a_cell_that_is_left_frees_the_processor(sandbox: Sessions, code: str) -> None:
    async def run_for_good() -> None:
        async with sandbox.session("thread_a") as session:
            async for _ in session.execute(f"print(1, flush=True)\n{code}", seconds=600):
                started.set()

    started = asyncio.Event()
    running = asyncio.create_task(run_for_good())
    await started.wait()
    container = await only(small())
    async with client() as api:
        before = await cpu(api, container.id)
        await asyncio.sleep(0.5)
        assert await cpu(api, container.id) > before
        running.cancel()
        async with asyncio.timeout(20):
            while await cpu_of_a_second(api, container.id) > 0.1 * 10**9:
                pass
    async with sandbox.session("thread_a") as session:
        assert not session.fresh
        assert await value(session, "1+1") == "2"


async def test_eight_keys_at_once_never_share_variables_or_files() -> None:
    async def visit(sandbox: Sessions, number: int) -> tuple[str, str, list[str]]:
        async with sandbox.session(f"thread_{number}") as session:
            if session.fresh:
                await session.put(f"in_{number}.txt", 1, one_byte(number))
                await ran(session, f"mine = {number}; open('out_{number}.txt', 'w').write('a')")
            others = "[name for name in dir() if name.startswith('mine')], mine"
            files = [file.path for file in await session.files()]
            content = await value(session, f"list(open('in_{number}.txt', 'rb').read())")
            return await value(session, others), content, files

    count = 8  # each takes seconds of processor time to start
    async with sessions(small(max_sessions=count, memory=256 * MIB, disk=8 * MIB)) as sandbox:
        for _ in range(2):
            seen = await asyncio.gather(*(visit(sandbox, number) for number in range(count)))
            assert seen == [
                (f"(['mine'], {number})", f"[{number}]", [f"in_{number}.txt", f"out_{number}.txt"])
                for number in range(count)
            ]


async def one_byte(number: int) -> AsyncIterator[bytes]:
    yield bytes([number])


async def test_a_sandbox_ends_by_itself_when_it_is_idle_or_old() -> None:
    for limits in ({"idle": 0.5}, {"life": 0.5}):
        settings = small(**limits)
        async with sessions(settings) as sandbox:
            async with sandbox.session("thread_a") as session:
                await ran(session, "x = 1")
            assert not await remaining(settings)


async def test_a_driver_keeps_the_time_without_its_host() -> None:
    settings = small()
    launcher = Docker(settings)
    launched = await launcher.launch()
    await launched.kernel.claim(idle=0.5, life=60)
    assert not await remaining(settings)
    with pytest.raises(SandboxLost, match="not used for long"):
        await launched.kernel.ping()
    await launcher.close()


async def test_a_sandbox_that_someone_removes_is_lost_and_replaced(sandbox: Sessions) -> None:
    async with sandbox.session("thread_a") as session:
        await ran(session, "x = 1")
        async with aclosing(session.execute("print(1, flush=True)\n" + BUSY, seconds=60)) as cell:
            await anext(cell)
            async with client() as api:
                api.remove_container((await only(small())).id, force=True)
            with pytest.raises(SandboxLost):
                await anext(cell)
    async with sandbox.session("thread_a") as session:
        assert session.fresh
        assert await value(session, "1+1") == "2"


async def test_a_container_ends_with_the_process_that_held_it() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.sandbox.holder", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"running\n"
    owner = started_by(process.pid)
    assert len(await containers(small(), owner)) == 1
    process.kill()
    await process.wait()
    assert not await remaining(small(), owner)


@pytest.mark.parametrize("seconds", [0, 0.03, 0.1, 0.3, 0.6])
async def test_a_start_that_is_cancelled_leaves_nothing(seconds: float) -> None:
    settings = small()
    launcher = Docker(settings)
    launching = asyncio.create_task(launcher.launch())
    await asyncio.sleep(seconds)
    launching.cancel()
    await asyncio.wait([launching])
    if not launching.cancelled():
        await launching.result().close()
    await launcher.close()
    assert not await remaining(settings)


async def test_leftovers_are_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    # Other tests have containers, too, and this one's clock is not theirs.
    monkeypatch.setattr(engine, "LABEL", "threadloom.sandbox.of-a-test")
    settings = small()
    container = Engine(settings).create()
    clock = FrozenClock((await only(settings)).created + 50)
    launcher = Docker(settings, clock)
    await launcher.sweep()
    assert (await only(settings)).id == container
    clock.advance(20)
    await launcher.sweep()
    assert not await containers(settings)
    await launcher.close()


@pytest.mark.parametrize(
    ("state", "age", "leftover"),
    [
        ("created", 50, False),
        ("created", 70, True),
        ("exited", 70, True),
        ("dead", 70, True),
        ("running", 1400, False),
        ("running", 1600, True),
        ("paused", 1600, True),
    ],
)
def test_a_leftover_is_what_nobody_can_be_using(state: str, age: float, leftover: bool) -> None:
    container = Container("id", state, created=1000, life=600, started_by="")
    assert container.is_leftover(1000 + age) is leftover


LIMITS: dict[str, object] = {
    "NetworkMode": "none",
    "ReadonlyRootfs": True,
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges:true"],
    "Memory": 384 * MIB,
    "MemorySwap": 384 * MIB,
    "NanoCpus": 10**9,
    "PidsLimit": 128,
    "IpcMode": "private",
    "ShmSize": 16 * MIB,
    "Tmpfs": {
        "/mnt/data": f"rw,nosuid,nodev,noexec,size={64 * MIB},uid=10001,gid=10001,mode=0700,nr_inodes=20000",
        "/tmp": f"rw,nosuid,nodev,size={64 * MIB},mode=1777,nr_inodes=20000",
    },
    "Ulimits": [
        {"Name": "nofile", "Soft": 1024, "Hard": 1024},
        {"Name": "core", "Soft": 0, "Hard": 0},
        {"Name": "fsize", "Soft": 64 * MIB, "Hard": 64 * MIB},
    ],
    "LogConfig": {"Type": "none", "Config": {}},
    "AutoRemove": True,
    "Init": False,
}
NOTHING = (
    *("Privileged", "CapAdd", "PidMode", "UTSMode", "UsernsMode", "Binds", "VolumesFrom"),
    *("Devices", "DeviceRequests", "GroupAdd", "PortBindings", "Mounts", "Links"),
)
CONFIG: dict[str, object] = {
    "User": "10001:10001",
    "Hostname": "sandbox",
    "OpenStdin": True,
    "StdinOnce": True,
    "AttachStdin": True,
    "Tty": False,
}


@asynccontextmanager
async def created() -> AsyncGenerator[tuple[Any, str]]:
    """The engine, and a container as sandboxes are that does not run."""
    container = await asyncio.to_thread(Engine(small()).create)
    async with client() as api:
        try:
            yield api, container
        finally:
            api.remove_container(container, force=True)


async def test_the_container_has_all_its_limits() -> None:
    async with created() as (api, container):
        seen = api.inspect_container(container)
    assert {name: seen["HostConfig"].get(name) for name in LIMITS} == LIMITS
    assert not [name for name in NOTHING if seen["HostConfig"].get(name)]
    assert {name: seen["Config"].get(name) for name in CONFIG} == CONFIG


async def test_the_code_sees_nothing_of_this_users_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxies = {"default": {"httpProxy": "http://user:password@proxy.test", "noProxy": "a.test"}}
    (tmp_path / "config.json").write_text(json.dumps({"proxies": proxies}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    async with created() as (api, container):
        seen = api.inspect_container(container)
        image = api.inspect_image(seen["Image"])
    assert sorted(seen["Config"]["Env"]) == sorted(image["Config"]["Env"])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"docker_host": "unix:///nowhere/docker.sock"},
            "The container engine does not answer at unix:///nowhere/docker.sock: is Docker running, and may this user use its socket?",
        ),
        (
            {"image": "threadloom-no-such-image"},
            "The sandbox's image `threadloom-no-such-image` is missing: run `threadloom sandbox build`.",
        ),
    ],
)
async def test_what_is_missing_is_said(settings: dict[str, str], sentence: str) -> None:
    sandbox = Sessions(small(**settings), Docker(small(**settings)))
    assert await sandbox.start() == sentence
    with pytest.raises(SandboxUnavailable) as refusal:
        async with sandbox.session("thread_a"):
            pass
    await sandbox.close()
    assert str(refusal.value) == sentence


async def test_a_missing_runtime_is_said() -> None:
    launcher = Docker(small(oci_runtime="no-such-runtime"))
    assert "has no runtime `no-such-runtime`" in str(await launcher.check())
    await launcher.close()


async def test_what_the_engine_says_is_not_for_users() -> None:
    settings = small(cpus=100_000)
    async with sessions(settings) as sandbox:
        with pytest.raises(SandboxUnavailable) as refusal:
            async with sandbox.session("thread_a"):
                pass
    assert str(refusal.value) == "The container engine refused to start a sandbox."


@hypothesis_settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=20))),
    st.lists(st.integers(1, 30), min_size=1),
)
async def test_output_is_taken_out_of_the_stream_however_it_is_cut(
    said: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    reader = asyncio.StreamReader()
    whole = b"".join(bytes([kind, 0, 0, 0]) + len(text).to_bytes(4) + text for kind, text in said)
    output = b"".join(text for kind, text in said if kind == 1)
    source = Demultiplexed(reader)
    reading = asyncio.create_task(source.readexactly(len(output)))
    while whole:
        cut = cuts[len(whole) % len(cuts)]
        reader.feed_data(whole[:cut])
        whole = whole[cut:]
        await asyncio.sleep(0)
    reader.feed_eof()
    assert await reading == output
    with pytest.raises(asyncio.IncompleteReadError):
        await source.readexactly(1)
    assert source.errors == b"".join(text for kind, text in said if kind == 2)
