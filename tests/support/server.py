"""The real server in the test's own event loop: database, worker, uvicorn on a loopback port."""

import asyncio
import logging
import ssl
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Any

import httpx2
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from tests.support.contract import ContractCheck
from threadloom.api.context import Context
from threadloom.api.keys import Keys, create_key, ensure_project
from threadloom.app import create_app
from threadloom.background import Background
from threadloom.blobs import open_blobs
from threadloom.clock import Clock, SystemClock
from threadloom.commands.serve import GRACE, Server
from threadloom.config import Settings
from threadloom.db.database import Database
from threadloom.events import Feed
from threadloom.ids import Ids, RandomIds
from threadloom.llm.chat import Models
from threadloom.retrieval.embedder import Embedder
from threadloom.retrieval.index.opening import open_index
from threadloom.retrieval.parsing import Parser
from threadloom.retrieval.parsing.parsers import Parsers
from threadloom.retrieval.reranker import Reranker
from threadloom.retrieval.search import Search
from threadloom.runs.file_search import FileSearch, PassageSearch
from threadloom.runs.tools import BuiltInTools
from threadloom.sandbox.opening import NoSandbox
from threadloom.sandbox.session import Sandbox
from threadloom.testing import HashEmbedder

CERTIFICATES = ssl.create_default_context()
"""To read them takes each client 50 ms, and nothing here is encrypted."""
TICKS, TICKS_OF_UVICORN = 100, 10
"""A second."""
ROUNDS = 5
NO_SANDBOX = NoSandbox("This test has no code interpreter.")


@dataclass
class Running:
    """A server that answers on `base_url`."""

    context: Context
    background: Background
    key: str
    port: int
    check: ContractCheck

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def database(self) -> Database:
        return self.context.database

    def http(self, key: str | None = None) -> httpx2.AsyncClient:
        """A raw client with a key; close it."""
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return httpx2.AsyncClient(
            base_url=self.base_url, headers=headers, timeout=20, verify=CERTIFICATES
        )

    def openai(self, key: str | None = None) -> AsyncOpenAI:
        return AsyncOpenAI(
            base_url=self.base_url,
            api_key=key or self.key,
            max_retries=0,
            http_client=DefaultAsyncHttpxClient(verify=CERTIFICATES),
        )

    async def new_key(self, project: str) -> str:
        """A key of another project."""
        return await self.database.write(create_key, project=project, name="test")


class QuickServer(Server):
    """Stops at once: uvicorn looks ten times a second whether it is to stop, and then waits a tenth."""

    async def main_loop(self) -> None:
        ticks = 0
        while not await self.on_tick(ticks * TICKS_OF_UVICORN // TICKS):
            ticks += 1
            await asyncio.sleep(1 / TICKS)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        del sockets
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for _ in range(ROUNDS):
            if self.server_state.connections:
                await asyncio.sleep(1 / TICKS)
        await asyncio.wait_for(self._wait_tasks_to_complete(), GRACE)


@asynccontextmanager
async def running_server(
    url: str,
    models: Models,
    *,
    settings: Mapping[str, Any] | None = None,
    built_in: BuiltInTools | None = None,
    search: PassageSearch | None = None,
    embedder: Embedder | None = None,
    reranker: Reranker | None = None,
    parser: Parser | None = None,
    sandbox: Sandbox | None = None,
    clock: Clock | None = None,
    ids: Ids | None = None,
    with_worker: bool = True,
) -> AsyncGenerator[Running]:
    """Start on a migrated database; stop as SIGTERM would. Without a `sandbox` no code can be run."""
    folder = tempfile.TemporaryDirectory(prefix="threadloom-test-")
    given: dict[str, Any] = {"data_dir": Path(folder.name), **(settings or {})}
    given["server"] = {"port": 0, **given.get("server", {})}
    chosen = Settings.model_validate(given, context=None)
    database = Database(url, clock=clock or SystemClock(), ids=ids or RandomIds())
    try:
        project = await database.write(ensure_project)
        key = await database.write(create_key, project="default", name="test")
        admin = chosen.auth.admin_key
        admin_key = admin.get_secret_value() if admin else None
        keys = Keys(database, admin_key=admin_key, default_project=project)
        blobs = open_blobs(chosen)
        chosen_embedder = embedder or HashEmbedder()
        index = open_index(chosen, database)
        context = Context(
            settings=chosen,
            database=database,
            feed=Feed(database),
            models=models,
            keys=keys,
            blobs=blobs,
            embedder=chosen_embedder,
            search=Search(chosen_embedder, index, reranker),
        )
        tools = dict(built_in or {})
        if search is not None:
            tools["file_search"] = FileSearch(database, search, chosen.file_search)
        background = Background(
            context, parser or Parsers(chosen.file_search), sandbox or NO_SANDBOX, tools
        )
        check = ContractCheck(create_app(context))
        started: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def stop() -> None:
            context.feed.close()
            background.drain()

        server = QuickServer(check, context, on_start=started.set_result, on_stop=stop)
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve())
            if with_worker:
                tasks.create_task(background.run())
            port = await started
            try:
                yield Running(context, background, key, port, check)
            finally:
                server.should_exit = True
                stop()
                await serving
        await index.close()
        await chosen_embedder.close()
        check.raise_faults()
    finally:
        await database.close()
        folder.cleanup()
