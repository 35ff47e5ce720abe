"""Which sandbox the settings give, and what is said where there is none."""

from pathlib import Path

import pytest

from threadloom.config import CodeInterpreter, Runner
from threadloom.sandbox.opening import NoSandbox, open_sandbox, start, sweep
from threadloom.sandbox.remote import RemoteSandbox
from threadloom.sandbox.session import SandboxUnavailable
from threadloom.sandbox.sessions import Sessions

NOWHERE = "unix:///nowhere/docker.sock"


async def test_without_a_runtime_there_is_none_and_it_says_why() -> None:
    sandbox = open_sandbox(CodeInterpreter(runtime="none"))
    why = "The code interpreter is turned off on this server."
    assert isinstance(sandbox, NoSandbox)
    assert await start(sandbox) == why
    with pytest.raises(SandboxUnavailable) as refusal:
        await sandbox.session("thread_a").__aenter__()
    assert str(refusal.value) == why
    assert list(await sandbox.keys()) == []
    await sandbox.end("thread_a")
    await sweep(sandbox)
    await sandbox.close()


async def test_a_tool_that_is_turned_off_asks_no_runner(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/runner.sock"
    assert isinstance(
        open_sandbox(CodeInterpreter(runtime="none", runner=Runner(url=url))), NoSandbox
    )


async def test_opening_asks_nothing_of_the_engine_and_starting_says_what_it_lacks() -> None:
    sandbox = open_sandbox(CodeInterpreter(docker_host=NOWHERE))
    assert isinstance(sandbox, Sessions)
    assert f"does not answer at {NOWHERE}" in str(await start(sandbox))
    await sweep(sandbox)
    await sandbox.close()


async def test_a_runner_takes_the_place_of_an_engine(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/runner.sock"
    sandbox = open_sandbox(CodeInterpreter(docker_host=NOWHERE, runner=Runner(url=url)))
    assert isinstance(sandbox, RemoteSandbox)
    assert url in str(await start(sandbox))
    await sandbox.close()
