"""`threadloom serve`: the API, and unless told otherwise a worker beside it, in one event loop."""

import asyncio
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from socket import AF_INET, AF_INET6, create_server, socket
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from threadloom import __version__
from threadloom.api.connections import protocol_of
from threadloom.api.context import Context
from threadloom.api.keys import first_key
from threadloom.app import create_app
from threadloom.background import Background
from threadloom.commands.garbage import collect_as_usual
from threadloom.commands.observing import observed
from threadloom.commands.opened import open_context
from threadloom.commands.reindex import warn_of_outdated
from threadloom.config import Settings
from threadloom.errors import StartError
from threadloom.llm.router import Router, find_local_servers
from threadloom.processes import present
from threadloom.retrieval.parsing.parsers import Parsers
from threadloom.sandbox.opening import open_sandbox

BACKLOG = 2048
ACCEPTED_AT_ONCE = 64
"""New connections in one round of the event loop. libuv accepts one for each socket: a busy loop would let the others wait, unrefused."""
GRACE = 30
"""Seconds that open requests have to finish at shutdown; streams end at once."""


class Server(uvicorn.Server):
    """uvicorn, but it says when it listens, and does not wait for open streams when it is told to stop."""

    def __init__(
        self,
        app: ASGIApp,
        context: Context,
        *,
        on_start: Callable[[int], None],
        on_stop: Callable[[], None],
    ) -> None:
        settings = context.settings.server
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                access_log=False,
                log_config=None,  # its warnings are lines like ours
                log_level="warning",
                lifespan="off",
                ws="none",
                server_header=False,
                proxy_headers=False,  # nobody is to become this machine by a header
                http=protocol_of(context.gate, settings.max_connections),
                timeout_graceful_shutdown=GRACE,
            )
        )
        self._on_start = on_start
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._loop = asyncio.get_running_loop()
            self._on_start(self.servers[0].sockets[0].getsockname()[1])

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """As uvicorn does, but the signal is not raised again afterwards: runs are still to be handed back."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._on_stop)
        super().handle_exit(sig, frame)


async def serve(settings: Settings, *, with_worker: bool) -> None:
    """Serve until SIGTERM or SIGINT. Raises StartError."""
    async with open_context(settings) as context:
        listening = listen(settings.server.host, settings.server.port)
        await warn_of_outdated(context)
        background = Background(
            context, Parsers(settings.file_search), open_sandbox(settings.code_interpreter)
        )

        def stop() -> None:
            context.feed.close()
            background.drain()

        lines: list[str] = []

        def announce(port: int) -> None:
            print(*lines, sep="\n", file=sys.stderr)  # noqa: T201
            address = f"http://{settings.server.host}:{port}/v1"
            print(f"Threadloom listens on {address}", file=sys.stderr, flush=True)  # noqa: T201

        server = Server(create_app(context), context, on_start=announce, on_stop=stop)
        kind = "both" if with_worker else "api"
        async with (
            present(context.database, kind),
            observed(settings.telemetry, context.database),
        ):
            more = [listening.dup() for _ in range(ACCEPTED_AT_ONCE - 1)]
            # Last of all: a start that fails must not use up the only time that the first key is shown.
            key = None if settings.auth.admin_key else await context.database.write(first_key)
            lines.extend(await banner(context, key))
            collect_as_usual()
            async with asyncio.TaskGroup() as tasks:
                if with_worker:
                    tasks.create_task(background.run())
                await server.serve(sockets=[listening, *more])
                stop()


def listen(host: str, port: int) -> socket:
    """The port, taken. Raises StartError."""
    family = AF_INET6 if ":" in host else AF_INET
    try:
        return create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise StartError(f"Cannot listen on {host}:{port}: {error}.") from None


async def banner(context: Context, key: str | None) -> list[str]:
    """What an operator wants to know at the start; the first key is shown here and never again."""
    lines = [f"Threadloom {__version__}: OpenAI's Assistants API (v2), self-hosted."]
    if isinstance(context.models, Router) and context.models.is_embedded:
        lines.append(
            "Model: the built-in demonstration, which quotes and does not reason. "
            "Set THREADLOOM_UPSTREAM__BASE_URL (and __API_KEY) to use a real one."
        )
        lines.extend(
            f"{server.name} listens on this machine: THREADLOOM_UPSTREAM__BASE_URL={server.base_url} would use it"
            f"{f' (it has {server.model})' if server.model else ''}."
            for server in await find_local_servers()
        )
    if key is not None:
        lines.append(f"Your first API key, shown only now: {key}")
    return lines
