"""`threadloom sandbox serve`: hold sandboxes for other processes."""

import asyncio
import signal
from functools import partial

import typer

from threadloom.commands.garbage import collect_as_usual
from threadloom.commands.scraping import scraped
from threadloom.config import CodeInterpreter, Settings
from threadloom.config import Runner as RunnerSettings
from threadloom.errors import StartError
from threadloom.sandbox.opening import open_sandbox
from threadloom.sandbox.runner import Runner, listening
from threadloom.sandbox.sessions import Sessions
from threadloom.telemetry import scraping

SWEEP_SECONDS = 60.0


async def serve(settings: Settings) -> None:
    """Until SIGTERM or SIGINT. Raises StartError."""
    code = settings.code_interpreter
    own = open_sandbox(without_runner(code))
    if not isinstance(own, Sessions):
        raise StartError("There is nothing to hold: code_interpreter.runtime is `none`.")
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    listen = partial(scraping.listening, scraping.own_metrics)
    try:
        with listening(code.runner) as bound:
            async with scraped(settings.telemetry, listen):
                if problem := await own.start():
                    say(f"There are no sandboxes yet: {problem}")
                say(f"Threadloom's sandbox runner listens on {code.runner.url}")
                sweeping = asyncio.create_task(sweep(own))
                collect_as_usual()
                await Runner(own, code).serve(bound, stopped)
                sweeping.cancel()
    finally:
        await own.close()


async def sweep(own: Sessions) -> None:
    """What processes that are gone have left behind, until it is cancelled."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        await own.sweep()


def without_runner(code: CodeInterpreter) -> CodeInterpreter:
    """The settings of the process that holds the sandboxes itself."""
    return code.model_copy(update={"runner": RunnerSettings()})


def say(line: str) -> None:
    typer.echo(line, err=True)
