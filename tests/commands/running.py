"""Commands as people run them, in this process: starting one takes a second."""

import asyncio
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from typing import Any

import orjson
from typer.testing import CliRunner, Result

from tests.support.process import COMMAND, environment
from threadloom.cli import cli
from threadloom.errors import StartError


@dataclass(frozen=True)
class Commands:
    """`threadloom`, with these variables in its environment."""

    variables: dict[str, str]

    async def run(self, *arguments: str, given: str | None = None) -> str:
        """What a command prints. Raises StartError, as `main` gets it."""
        result = await self.result(*arguments, given=given)
        if result.exception:
            raise result.exception
        return result.stdout.strip()

    async def result(self, *arguments: str, given: str | None = None) -> Result:
        """What a command prints, and its exit code."""
        return await asyncio.to_thread(
            CliRunner().invoke, cli, arguments, input=given, env=self.variables
        )

    async def json(self, *arguments: str) -> Any:
        """What a command prints with `--json`: one document, and nothing else."""
        return orjson.loads(await self.run(*arguments, "--json"))

    async def process(self, *arguments: str) -> Process:
        """A command in a process of its own, which goes on while others run."""
        variables = environment(**self.variables)
        return await asyncio.create_subprocess_exec(
            COMMAND, *arguments, env=variables, stdout=PIPE, stderr=PIPE
        )

    async def refused(self, *arguments: str) -> str:
        """The sentence with which a command could not."""
        try:
            printed = await self.run(*arguments)
        except StartError as error:
            return str(error)
        raise AssertionError(printed)
