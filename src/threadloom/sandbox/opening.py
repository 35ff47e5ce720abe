"""Which sandbox a process has, by its settings. There is no unprotected one to fall back on."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from threadloom.config import CodeInterpreter
from threadloom.sandbox.bubblewrap import Bubblewrap
from threadloom.sandbox.docker import Docker
from threadloom.sandbox.remote import RemoteSandbox
from threadloom.sandbox.session import Sandbox, SandboxUnavailable, Session
from threadloom.sandbox.sessions import Sessions


class NoSandbox:
    """Says why there is none."""

    def __init__(self, why: str) -> None:
        self.why = why

    @asynccontextmanager
    async def session(self, key: str) -> AsyncGenerator[Session]:
        del key
        raise SandboxUnavailable(self.why)
        yield  # an async generator, which never comes here

    async def keys(self) -> Sequence[str]:
        return []

    async def end(self, key: str) -> None:
        pass

    async def close(self) -> None:
        pass


def open_sandbox(settings: CodeInterpreter) -> Sandbox:
    """Touches nothing yet: see `start`."""
    if settings.runner.url is not None and settings.runtime != "none":
        return RemoteSandbox(settings)
    match settings.runtime:
        case "docker":
            return Sessions(settings, Docker(settings))
        case "bubblewrap":
            return Sessions(settings, Bubblewrap(settings))
        case "none":
            return NoSandbox("The code interpreter is turned off on this server.")


async def start(sandbox: Sandbox) -> str | None:
    """Make spares ready. A sentence for the log says why the tool does not work now, if it does not."""
    match sandbox:
        case Sessions():
            return await sandbox.start()
        case NoSandbox():
            return sandbox.why
        case _:
            try:
                await sandbox.keys()
            except SandboxUnavailable as problem:
                return str(problem)
            return None


async def sweep(sandbox: Sandbox) -> None:
    """Remove what processes that are gone have left behind; once a minute."""
    if isinstance(sandbox, Sessions):
        await sandbox.sweep()
