"""`threadloom worker`: runs without HTTP, beside `threadloom serve --no-worker` on PostgreSQL."""

import asyncio
import signal
import sys

from threadloom.commands.opened import open_context
from threadloom.config import Settings
from threadloom.worker import Worker


async def work(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT, then hand back what is held. Raises StartError."""
    async with open_context(settings) as context:
        worker = Worker(context.database, context.feed, context.models, settings.runs)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.drain)
        print("Threadloom works.", file=sys.stderr, flush=True)  # noqa: T201
        await worker.run()
