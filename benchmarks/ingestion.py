"""Ingestion beside chats: `python -m benchmarks.ingestion [--files N] [--pages N] [--quick]`.

Three figures in one run, so that they may be compared: chats on a quiet server, the bare embedder on the same chunks, and both
at once on one server. Chats are answered by the scripted upstream, 20 tokens each, by `CLIENTS` clients that pause between them.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop
from openai import AsyncOpenAI

from benchmarks.figures import Figure, percentile, table
from benchmarks.load import connected
from benchmarks.processes import KEY, Serving, server, upstream
from benchmarks.targets import Pair, pair
from tests.support.documents import long_pdf
from threadloom.config import Settings
from threadloom.retrieval.embedders import open_embedder
from threadloom.retrieval.parsing.parsers import Parsers
from threadloom.types.vector_stores import StaticChunking

CLIENTS = 32
POLL = 1.0
PAUSE = 2.0
"""Seconds between two chats of one client."""
UPLOADS = 8
BATCH = 500
MS = 1e3


@dataclass(frozen=True)
class Sizes:
    """How much is ingested, and for how long the quiet server is watched."""

    files: int
    pages: int
    quiet: float


FULL = Sizes(files=10_000, pages=300, quiet=30.0)
QUICK = Sizes(files=20, pages=3, quiet=3.0)


@dataclass(frozen=True)
class Documents:
    """What is ingested."""

    small: Sequence[tuple[str, bytes]]
    pdf: tuple[str, bytes]


def note(number: int) -> str:
    """About a kilobyte."""
    return f"Note {number}\n\n" + " ".join(
        f"The pump of line {(number + part) % 97} was serviced by crew {number % 13}, its filter lasts "
        f"{(number * part) % 400 + 20} hours, and its pressure is {part} bar. Whoever finds it leaking closes "
        "the valve first, and then calls the workshop."
        for part in range(1, 6)
    )


def documents(sizes: Sizes) -> Documents:
    """Small notes, no two alike, and one long PDF."""
    small = [(f"note-{number}.txt", note(number).encode()) for number in range(sizes.files)]
    with tempfile.TemporaryDirectory() as folder:
        manual = Path(folder) / "manual.pdf"
        long_pdf(manual, sizes.pages)
        return Documents(small, (manual.name, manual.read_bytes()))


async def bare_embedder(given: Documents) -> tuple[int, float]:
    """Chunks of the same documents, and the seconds that the embedder alone needs for them."""
    settings = Settings()
    parser = Parsers(settings.file_search)
    texts = [content.decode() for _, content in given.small]
    name, content = given.pdf
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "document"
        path.write_bytes(content)
        async for parsed in parser.parse(path, name, StaticChunking()):
            texts.extend(chunk.text for chunk in parsed.chunks)
    await parser.close()
    embedder = open_embedder(settings)
    await embedder.embed_passages(texts[:1])
    began = time.perf_counter()
    for first in range(0, len(texts), 64):
        await embedder.embed_passages(texts[first : first + 64])
    seconds = time.perf_counter() - began
    await embedder.close()
    return len(texts), seconds


class Chats:
    """Clients that chat until they are told to stop, and how long they waited for each first token."""

    def __init__(self, both: Pair) -> None:
        self._served = both.served
        self._stopped = asyncio.Event()
        self.firsts: list[float] = []

    async def go_on(self, seconds: float) -> list[float]:
        """Chat for a while; the waits of that while."""
        self.firsts = []
        async with asyncio.TaskGroup() as clients:
            for number in range(CLIENTS):
                clients.create_task(self._client(number))
            await asyncio.sleep(seconds)
            self._stopped.set()
        return self.firsts

    def stop(self) -> None:
        self._stopped.set()

    async def _client(self, number: int) -> None:
        await asyncio.sleep(PAUSE * number / CLIENTS)
        async with connected(self._served.serving.port) as connection:
            while not self._stopped.is_set():
                done = await connection.stream(self._served.streaming(20, 50))
                self.firsts.append(done.first)
                await asyncio.sleep(PAUSE)


def waits(name: str, firsts: Sequence[float]) -> list[Figure]:
    return [
        Figure(f"first token, {name}, p50", percentile(firsts, 0.5) * MS, "ms"),
        Figure(f"first token, {name}, p95", percentile(firsts, 0.95) * MS, "ms"),
        Figure(f"first token, {name}, latest", max(firsts) * MS, "ms"),
    ]


async def completed(client: AsyncOpenAI, store_id: str, files: int) -> None:
    while (await client.vector_stores.retrieve(store_id)).file_counts.completed < files:  # noqa: ASYNC110
        await asyncio.sleep(POLL)


async def ingest(serving: Serving, given: Documents) -> float:
    """Upload everything, the notes into one store, which takes 10,000, and the manual into another; seconds from the first attachment to the last completion."""
    async with AsyncOpenAI(
        base_url=f"http://127.0.0.1:{serving.port}/v1", api_key=KEY, max_retries=0
    ) as client:
        gate = asyncio.Semaphore(UPLOADS)

        async def upload(document: tuple[str, bytes]) -> str:
            async with gate:
                return (await client.files.create(file=document, purpose="assistants")).id

        file_ids = await asyncio.gather(*map(upload, given.small))
        manual = await upload(given.pdf)
        notes = await client.vector_stores.create()
        began = time.perf_counter()
        manuals = await client.vector_stores.create(file_ids=[manual])
        for first in range(0, len(file_ids), BATCH):
            await client.vector_stores.file_batches.create(
                notes.id, file_ids=file_ids[first : first + BATCH]
            )
        for store, files in ((notes, len(file_ids)), (manuals, 1)):
            await completed(client, store.id, files)
        return time.perf_counter() - began


async def measured(sizes: Sizes) -> AsyncIterator[Figure]:
    given = documents(sizes)
    chunks, bare = await bare_embedder(given)
    yield Figure("chunks", chunks, "")
    yield Figure("bare embedder", chunks / bare, "chunks/s")
    with upstream() as model:
        with tempfile.TemporaryDirectory() as folder, server(model.port, Path(folder)) as serving:
            alone = await ingest(serving, given)
        yield Figure("ingestion", chunks / alone, "chunks/s")
        yield Figure("ingestion, share of the bare embedder", bare / alone, "")
        with tempfile.TemporaryDirectory() as folder, server(model.port, Path(folder)) as serving:
            both = await pair(model, serving)
            quiet = await Chats(both).go_on(sizes.quiet)
            for figure in waits("quiet", quiet):
                yield figure
            chats = Chats(both)
            chatting = asyncio.create_task(chats.go_on(1e9))
            beside = await ingest(serving, given)
            chats.stop()
            chatting.cancel()
            for figure in waits("beside ingestion", chats.firsts):
                yield figure
            yield Figure("ingestion beside chats", chunks / beside, "chunks/s")
            yield Figure(
                "latest first token, times the quiet one", max(chats.firsts) / max(quiet), ""
            )


async def print_all(sizes: Sizes) -> None:
    async for figure in measured(sizes):
        print(table([figure]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingestion", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it work at all?")
    parser.add_argument("--files", type=int, default=None)
    parser.add_argument("--pages", type=int, default=None)
    options = parser.parse_args()
    sizes = QUICK if options.quick else FULL
    sizes = Sizes(options.files or sizes.files, options.pages or sizes.pages, sizes.quiet)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(print_all(sizes))


if __name__ == "__main__":
    main()
