"""A GGUF file that is run inside this process, through the optional `xllamacpp`."""

import asyncio
import os
import secrets
import threading
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, cast

import structlog

from threadloom.config import ModelCalls
from threadloom.errors import StartError
from threadloom.ids import Ids
from threadloom.llm.chat import (
    ChatEvent,
    ChatMessage,
    ChatRequest,
    ImagePart,
    ModelError,
    TextPart,
    UserMessage,
)
from threadloom.llm.failures import SORRY, ProviderError, bad_prompt, provider_error
from threadloom.llm.wire import (
    COMPATIBLE,
    AnswerBroken,
    AnswerFailed,
    ChunkReader,
    Json,
    request_body,
)

log = structlog.stdlib.get_logger()

EXTRA = "xllamacpp"
PARALLEL = 4
BAD_REQUEST = 400
CONTEXT_WINDOW = 8192
UNSEEN = TextPart("[A picture, which this model cannot see.]")


class Engine(Protocol):
    """What is used of `xllamacpp.Server`: the call blocks, and threads may make it side by side.

    `callback` gets each chunk and returns True to stop the generation.
    """

    def handle_chat_completions(self, request: Json, callback: Callable[[Json], bool]) -> None: ...


class LocalModel:
    """Loads the file at the first request and keeps it; answers are generated in threads."""

    def __init__(
        self, gguf: Path, *, calls: ModelCalls, ids: Ids, context_window: int = CONTEXT_WINDOW
    ) -> None:
        if find_spec(EXTRA) is None:
            raise StartError(
                "A provider with a gguf needs an extra: pip install 'threadloom[local]'."
            )
        if not gguf.is_file():
            raise StartError(f"There is no GGUF file at {gguf}.")
        self._gguf = gguf
        self._context_window = context_window
        self._calls = calls
        self._ids = ids
        self._places = asyncio.Semaphore(PARALLEL)
        self._engine: Engine | None = None
        self._loading = threading.Lock()
        self._threads = ThreadPoolExecutor(PARALLEL, thread_name_prefix="local-model")

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent]:
        body = request_body(replace(request, messages=in_words(request.messages)), COMPATIBLE)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        reader = ChunkReader(self._ids)
        # Whoever waits for a place is not late: the limits count from here on.
        async with self._places:
            generation = Generation(asyncio.get_running_loop())
            self._threads.submit(generation.run, self._loaded, body)
            patience = self._calls.first_token_timeout
            try:
                while (chunk := await generation.next(patience)) is not None:
                    patience = self._calls.idle_timeout
                    for event in read(reader, chunk, request.model):
                        yield event
            finally:
                generation.stop()
        for event in reader.finish():
            yield event

    def _loaded(self) -> Engine:
        with self._loading:
            if self._engine is None:
                self._engine = load(self._gguf, self._context_window)
            return self._engine


def in_words(messages: Iterable[ChatMessage]) -> tuple[ChatMessage, ...]:
    """The file is a language model alone: of pictures it is told that there were some."""
    return tuple(
        UserMessage(tuple(UNSEEN if isinstance(part, ImagePart) else part for part in one.parts))
        if isinstance(one, UserMessage)
        else one
        for one in messages
    )


class Generation:
    """One answer, carried from the thread that generates it into the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._chunks = asyncio.Queue[Json | None]()
        self._stopped = threading.Event()

    async def next(self, patience: float) -> Json | None:
        """An error when nothing comes for so many seconds."""
        try:
            async with asyncio.timeout(patience):
                return await self._chunks.get()
        except TimeoutError:
            return {"error": {"type": "timeout"}}

    def stop(self) -> None:
        """The generation ends at its next token."""
        self._stopped.set()

    def run(self, engine: Callable[[], Engine], body: Json) -> None:
        """In the thread: every fault becomes the last chunk."""
        try:
            if not self._stopped.is_set():
                engine().handle_chat_completions(body, self._take)
        except (RuntimeError, ValueError, TypeError) as error:
            self._put({"error": {"message": str(error), "type": type(error).__name__}})
        except Exception as error:  # noqa: BLE001 - the thread's outermost: a file that cannot be loaded, for one, may fail in any way
            self._put({"error": {"type": type(error).__name__}})
        self._put(None)

    def _take(self, chunk: Json) -> bool:
        self._put(chunk)
        return self._stopped.is_set()

    def _put(self, chunk: Json | None) -> None:
        if not self._stopped.is_set():
            self._loop.call_soon_threadsafe(self._chunks.put_nowait, chunk)


def read(reader: ChunkReader, chunk: Json, model: str) -> list[ChatEvent]:
    try:
        return reader.events(chunk)
    except AnswerFailed as failed:
        raise shown(provider_error(failed.error), model) from None
    except AnswerBroken:
        raise ModelError("server_error", SORRY) from None


def shown(error: ProviderError, model: str) -> ModelError:
    log.warning("local model failed", model=model, code=error.code, type=error.type)
    return bad_prompt(BAD_REQUEST, error, model) or ModelError("server_error", SORRY)


def load(gguf: Path, context_window: int) -> Engine:
    # The extra is optional: nothing of it may be imported before somebody configured a GGUF file.
    xllamacpp: Any = import_module(EXTRA)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(gguf)
    parameters.n_ctx = context_window
    parameters.n_parallel = PARALLEL
    parameters.kv_unified = True
    # ggml's threads wait for each other by spinning: without a core left over, a busy machine makes them
    # twenty times slower (2 cores, 5 busy processes: 32 s against 1 s).
    threads = max(1, (os.cpu_count() or 2) - 1)
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.verbosity = -1
    # It always listens on a free loopback port as well: nobody else is to use that.
    parameters.ui = False
    parameters.api_keys = [secrets.token_urlsafe(32)]
    return cast(Engine, xllamacpp.Server(parameters))  # the package has no types
