"""Real sandboxes for tests marked `docker`. Without an engine they are skipped, or fail when REQUIRE_DOCKER is 1."""

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import cache

import pytest

from threadloom.config import CodeInterpreter
from threadloom.sandbox.docker import Docker
from threadloom.sandbox.engine import Container, started_by
from threadloom.sandbox.sessions import Sessions

MIB = 1024 * 1024


def small(**settings: object) -> CodeInterpreter:
    """Sandboxes of which a few dozen fit into a small machine; there are no spares."""
    return CodeInterpreter.model_validate(
        {"pool": 0, "memory": 384 * MIB, "disk": 64 * MIB, "timeout": 20.0} | settings
    )


@cache
def problem() -> str | None:
    return asyncio.run(checked())


async def checked() -> str | None:
    engine = Docker(CodeInterpreter())
    try:
        return await engine.check()
    finally:
        await engine.close()


def need_engine() -> None:
    """For a test's setup."""
    if why := problem():
        if os.environ.get("REQUIRE_DOCKER") == "1":
            pytest.fail(why, pytrace=False)
        pytest.skip(why)


@asynccontextmanager
async def sessions(settings: CodeInterpreter | None = None) -> AsyncGenerator[Sessions]:
    """Ended afterwards; nothing may be left of them."""
    settings = settings or small()
    sandbox = Sessions(settings, Docker(settings))
    try:
        yield sandbox
    finally:
        await sandbox.close()
    assert not await remaining(settings)


async def containers(settings: CodeInterpreter, owner: str | None = None) -> Sequence[Container]:
    """Sandboxes that this process, or `owner`, has started."""
    engine = Docker(settings)
    try:
        wanted = owner or started_by()
        return [each for each in await engine.containers() if each.started_by == wanted]
    finally:
        await engine.close()


async def remaining(
    settings: CodeInterpreter, owner: str | None = None, seconds: float = 5.0
) -> Sequence[Container]:
    """What is still there after a while: the engine answers before all is gone."""
    deadline = asyncio.get_running_loop().time() + seconds
    while found := await containers(settings, owner):
        if asyncio.get_running_loop().time() > deadline:
            return found
        await asyncio.sleep(0.05)
    return []
