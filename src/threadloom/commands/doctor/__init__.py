"""`threadloom doctor`: looks at all that a server needs, and says of what is wrong how to mend it.

It changes nothing but for a probe in the file storage, calls only what is configured, and waits for nothing longer than its limits.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial

import structlog

from threadloom.commands import configuration
from threadloom.commands.doctor.codes import check_sandbox
from threadloom.commands.doctor.findings import Finding, green, red
from threadloom.commands.doctor.models import check_embeddings, check_models
from threadloom.commands.doctor.places import check_directory, check_storage
from threadloom.commands.doctor.proxies import check_proxy
from threadloom.commands.doctor.records import read_records
from threadloom.commands.doctor.runners import look_for_runner
from threadloom.config import Settings, variable
from threadloom.errors import StartError

Check = Callable[[], Awaitable[Sequence[Finding]]]
PATIENCE = 90.0
"""Seconds for one check: a sandbox may wait for others. Models have limits of their own."""


async def examine(
    settings: Settings, *, url: str | None = None, key: str | None = None
) -> AsyncIterator[Finding]:
    """All findings, as they come. `url` is the address that programs use, ending in /v1, and `key` one that works there."""
    with quiet():
        fitting = await check_settings(settings)
        yield fitting
        if fitting.colour == "red":
            return  # no process starts with these
        code = settings.code_interpreter
        if runner := await asyncio.to_thread(look_for_runner, settings):
            yield runner
            for finding in await bounded("sandbox", partial(check_sandbox, code, held_here=True)):
                yield finding
            return
        yield await asyncio.to_thread(check_directory, settings)
        records = await asyncio.to_thread(read_records, settings)
        for finding in records.findings:
            yield finding
        async for finding in check_models(settings, records.models):
            yield finding
        checks: dict[str, Check] = {
            "storage": partial(check_storage, settings),
            "embeddings": partial(check_embeddings, settings, records.embedded),
            "sandbox": partial(check_sandbox, code, used_here=not records.serves_only),
        }
        if url is not None:
            checks["proxy"] = partial(check_proxy, url, key)
        for name, check in checks.items():
            for finding in await bounded(name, check):
                yield finding


def key_for(settings: Settings) -> str | None:
    """The key that programs have in their environment, or else the admin key."""
    admin = settings.auth.admin_key
    return variable("OPENAI_API_KEY") or (admin.get_secret_value() if admin else None)


async def bounded(name: str, check: Check) -> Sequence[Finding]:
    """A check that is stuck is a finding too."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await check()
    except TimeoutError:
        mend = "See whether what this check asks for answers at all."
        return [red(name, f"gives no answer within {PATIENCE:.0f} seconds", mend)]


async def check_settings(settings: Settings) -> Finding:
    try:
        await configuration.check(settings)
    except StartError as error:
        return wrong_settings(error)
    return green("settings", "read, and they fit together")


def wrong_settings(error: StartError) -> Finding:
    says = "; ".join(str(error).splitlines())
    mend = (
        "Correct that name or value where it is set: `threadloom config example` has all of them."
    )
    return red("settings", says, mend)


@contextmanager
def quiet() -> Generator[None]:
    """What the parts log while they are tried is said in the findings."""
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
