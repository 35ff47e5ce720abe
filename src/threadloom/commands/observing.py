"""What serving and working processes have in common: a port for metrics, and traces, as far as the settings want them."""

import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from threadloom.config import Telemetry
from threadloom.db.database import Database
from threadloom.exposition import listening
from threadloom.telemetry.tracing import traced


@asynccontextmanager
async def observed(settings: Telemetry, database: Database) -> AsyncGenerator[None]:
    """Be observed until the block ends. Raises StartError."""
    async with AsyncExitStack() as stack:
        if settings.metrics and settings.port is not None:
            port = await stack.enter_async_context(
                listening(database, settings.host, settings.port)
            )
            print(f"Metrics are at http://{settings.host}:{port}/metrics", file=sys.stderr)  # noqa: T201
        if settings.otlp_endpoint:
            headers = {
                name: value.get_secret_value() for name, value in settings.otlp_headers.items()
            }
            await stack.enter_async_context(
                traced(settings.otlp_endpoint, headers, settings.sampling)
            )
        yield
