"""A process that holds a sandbox in which a cell runs, until it is killed."""

import asyncio
import sys

from tests.support.engine import small
from threadloom.sandbox.docker import Docker
from threadloom.sandbox.sessions import Sessions

CODE = "print('running', flush=True)\nwhile True: pass"


async def hold() -> None:
    settings = small()
    async with Sessions(settings, Docker(settings)).session("thread_a") as session:
        async for _ in session.execute(CODE, seconds=600):
            sys.stdout.write("running\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(hold())
