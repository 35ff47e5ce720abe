"""`threadloom worker`: runs without HTTP, beside `threadloom serve --no-worker` on PostgreSQL."""

import asyncio
import signal
import sys

from threadloom.background import Background
from threadloom.commands.garbage import collect_as_usual
from threadloom.commands.observing import observed
from threadloom.commands.opened import open_context
from threadloom.commands.reindex import warn_of_outdated
from threadloom.config import Settings
from threadloom.processes import present
from threadloom.retrieval.parsing.parsers import Parsers
from threadloom.sandbox.opening import open_sandbox


async def work(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT, then hand back what is held. Raises StartError."""
    async with open_context(settings) as context:
        await warn_of_outdated(context)
        background = Background(
            context, Parsers(settings.file_search), open_sandbox(settings.code_interpreter)
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, background.drain)
        print("Threadloom works.", file=sys.stderr, flush=True)  # noqa: T201
        async with (
            present(context.database, "worker"),
            observed(settings.telemetry, context.database),
        ):
            collect_as_usual()
            await background.run()
