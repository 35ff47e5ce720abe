"""The port for metrics of a process, as far as the settings want one."""

import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from threadloom.config import Telemetry

Listen = Callable[[str, int], AbstractAsyncContextManager[int]]
"""Answers scrapes at an address; gives the port."""


@asynccontextmanager
async def scraped(settings: Telemetry, listen: Listen) -> AsyncGenerator[None]:
    """Answer scrapes until the block ends. Raises StartError."""
    if not settings.metrics or settings.port is None:
        yield
        return
    async with listen(settings.host, settings.port) as port:
        print(f"Metrics are at http://{settings.host}:{port}/metrics", file=sys.stderr, flush=True)  # noqa: T201
        yield
