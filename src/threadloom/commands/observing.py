"""What serving and working processes have in common: a port for metrics, and traces, as far as the settings want them."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from threadloom.commands.scraping import scraped
from threadloom.config import Telemetry
from threadloom.db.database import Database
from threadloom.exposition import listening
from threadloom.telemetry.tracing import traced


@asynccontextmanager
async def observed(settings: Telemetry, database: Database) -> AsyncGenerator[None]:
    """Be observed until the block ends. Raises StartError."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(scraped(settings, partial(listening, database)))
        if settings.otlp_endpoint:
            headers = {
                name: value.get_secret_value() for name, value in settings.otlp_headers.items()
            }
            await stack.enter_async_context(
                traced(settings.otlp_endpoint, headers, settings.sampling)
            )
        yield
