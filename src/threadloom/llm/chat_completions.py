"""Any server that speaks Chat Completions, as a ChatModel."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx2
import orjson
import structlog

from threadloom.backoff import Backoff
from threadloom.config import ModelCalls
from threadloom.ids import Ids
from threadloom.llm.chat import ChatEvent, ChatRequest, ModelError
from threadloom.llm.failures import (
    SORRY,
    Failure,
    error_of,
    failure_in_stream,
    failure_of_status,
)
from threadloom.llm.sse import DataLines, LineTooLong
from threadloom.llm.wire import (
    COMPATIBLE,
    DONE,
    OPENAI,
    AnswerBroken,
    AnswerFailed,
    ChunkReader,
    Dialect,
    request_body,
)
from threadloom.telemetry import metrics

log = structlog.stdlib.get_logger()

LARGEST_ERROR = 64 * 1024
LARGEST_COMPLETION = 10 * 1024 * 1024
DRAIN_TIMEOUT = 0.25


@dataclass(frozen=True)
class Endpoint:
    """A provider's address. `key_setting` names the setting an operator has to look at."""

    name: str
    base_url: str
    api_key: str | None = None
    key_setting: str = "THREADLOOM_UPSTREAM__API_KEY"
    url_setting: str = "THREADLOOM_UPSTREAM__BASE_URL"

    @property
    def dialect(self) -> Dialect:
        host = urlsplit(self.base_url).hostname or ""
        is_openai = host.endswith((".openai.com", ".openai.azure.com"))
        return OPENAI if is_openai else COMPATIBLE

    def headers(self) -> dict[str, str]:
        common = {"content-type": "application/json", "accept-encoding": "identity"}
        if self.api_key is None:
            return common
        return common | {"authorization": f"Bearer {self.api_key}"}


class ChatCompletions:
    """One provider. The client is shared by all of them and belongs to whoever made it."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        endpoint: Endpoint,
        *,
        calls: ModelCalls,
        ids: Ids,
        backoff: Backoff | None = None,
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._calls = calls
        self._ids = ids
        self._backoff = backoff or Backoff()
        self._dialect = endpoint.dialect
        self._url = httpx2.URL(endpoint.base_url.rstrip("/") + "/chat/completions")
        self._headers = endpoint.headers()

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent]:
        content = orjson.dumps(
            request_body(request, self._dialect)
            | {"stream": True, "stream_options": {"include_usage": True}}
        )
        answer, events = await self._begin(request.model, content)
        try:
            while events is not None:
                for event in events:
                    yield event
                events = await self._more(request.model, answer)
            # By now the answer was read to its end: whoever stops at `Finished` leaves a usable connection.
            for event in answer.finish():
                yield event
        finally:
            await answer.close()

    async def _begin(self, model: str, content: bytes) -> tuple["Answer", list[ChatEvent] | None]:
        """The answer and its first events, after as many tries as are allowed."""
        for attempt in range(self._calls.retries + 1):
            try:
                return await self._try(model, content)
            except Failure as failure:
                self._log(failure, model, attempt)
                if not failure.retriable or attempt == self._calls.retries:
                    raise failure.shown from None
                metrics.MODEL_RETRIES.add(provider=self._endpoint.name)
                await asyncio.sleep(self._backoff.seconds(attempt, failure.retry_after))
        raise AssertionError

    async def _more(self, model: str, answer: "Answer") -> list[ChatEvent] | None:
        try:
            return await answer.read(self._calls.idle_timeout)
        except Failure as failure:
            self._log(failure, model, 0)
            raise failure.shown from None

    async def _try(self, model: str, content: bytes) -> tuple["Answer", list[ChatEvent] | None]:
        began = asyncio.get_running_loop().time()
        patience = self._calls.first_token_timeout
        response = await self._send(content, patience)
        if response.status_code != HTTPStatus.OK:
            raise await self._refused(response, model)
        answer = Answer(response, ChunkReader(self._ids), self._endpoint.api_key)
        try:
            left = patience - (asyncio.get_running_loop().time() - began)
            return answer, await answer.read(left)
        except BaseException:
            await answer.close()
            raise

    async def _send(self, content: bytes, patience: float) -> httpx2.Response:
        request = httpx2.Request(
            "POST",
            self._url,
            headers=self._headers,
            content=content,
            # Reading is timed here and not by the client, which knows one limit for the first byte and all others.
            extensions={"timeout": {"connect": self._calls.connect_timeout, "write": patience}},
        )
        try:
            async with asyncio.timeout(patience):
                return await self._client.send(request, stream=True)
        except TimeoutError:
            raise Failure(server_error(), "no headers in time") from None
        except httpx2.TransportError as error:
            raise Failure(server_error(), type(error).__name__, retriable=True) from None

    async def _refused(self, response: httpx2.Response, model: str) -> Failure:
        body = b""
        try:
            async with (
                asyncio.timeout(self._calls.connect_timeout),
                aclosing(response.aiter_raw()) as chunks,
            ):
                async for chunk in chunks:
                    body += chunk
                    if len(body) > LARGEST_ERROR:
                        break
        except (TimeoutError, httpx2.TransportError):
            pass  # the status says enough
        finally:
            await response.aclose()
        return failure_of_status(
            response.status_code,
            response.headers,
            error_of(body),
            model=model,
            endpoint=self._endpoint,
        )

    def _log(self, failure: Failure, model: str, attempt: int) -> None:
        log.warning(
            "model call failed",
            provider=self._endpoint.name,
            model=model,
            reason=failure.reason,
            status=failure.status,
            code=failure.provider_code,
            attempt=attempt + 1,
            retriable=failure.retriable,
        )


class Answer:
    """One HTTP answer while it arrives."""

    def __init__(self, response: httpx2.Response, reader: ChunkReader, api_key: str | None) -> None:
        self._response = response
        self._chunks = response.aiter_raw()
        self._lines = DataLines()
        self._reader = reader
        self._api_key = api_key
        self._whole: list[bytes] | None = None
        self._began = False
        self._ended = False

    async def read(self, patience: float) -> list[ChatEvent] | None:
        """The next events, at least one; None after the last ones. Raises Failure."""
        while not self._ended:
            chunk = await self._next(patience)
            try:
                events = self._events(chunk)
            except AnswerFailed as failed:
                raise failure_in_stream(failed.error, self._api_key) from None
            except (AnswerBroken, LineTooLong) as broken:
                raise Failure(server_error(), str(broken)) from None
            if events:
                return events
        await self._drain()
        return None

    def finish(self) -> list[ChatEvent]:
        """The events that end the turn."""
        return self._reader.finish()

    async def close(self) -> None:
        await self._chunks.aclose()
        await self._response.aclose()

    async def _next(self, patience: float) -> bytes | None:
        """The next bytes, None at the end. A cut after the finish reason is an end."""
        try:
            async with asyncio.timeout(patience):
                return await anext(self._chunks)
        except StopAsyncIteration:
            return None
        except TimeoutError:
            failure = Failure(server_error(), "no bytes in time")
        except (httpx2.TransportError, httpx2.StreamError) as error:
            failure = Failure(server_error(), type(error).__name__, retriable=True)
        if self._reader.has_finish_reason:
            return None
        raise failure

    def _events(self, chunk: bytes | None) -> list[ChatEvent]:
        if not self._began and chunk:
            self._began = bool(chunk.strip())
            # A provider may ignore `stream`; its content type does not tell reliably, its first byte does.
            self._whole = [] if chunk.lstrip()[:1] == b"{" else None
        if self._whole is not None:
            return self._completion(self._whole, chunk)
        if chunk is None:
            return self._at_end()
        return self._read_lines(self._lines.feed(chunk))

    def _read_lines(self, payloads: list[bytes]) -> list[ChatEvent]:
        read = self._reader.read
        if len(payloads) == 1 and payloads[0] != DONE:
            return read(payloads[0])
        events: list[ChatEvent] = []
        for payload in payloads:
            if payload == DONE:
                self._ended = True
                break
            events += read(payload)
        return events

    def _at_end(self) -> list[ChatEvent]:
        events = self._read_lines(self._lines.flush())
        if not self._ended and not self._reader.has_finish_reason:
            raise AnswerBroken("The answer ended early.")
        self._ended = True
        return events

    def _completion(self, whole: list[bytes], chunk: bytes | None) -> list[ChatEvent]:
        if chunk is None:
            self._ended = True
            return self._reader.read(b"".join(whole))
        whole.append(chunk)
        if sum(map(len, whole)) > LARGEST_COMPLETION:
            raise AnswerBroken("The completion is too large.")
        return []

    async def _drain(self) -> None:
        """A connection can be used again only when its answer was read to the end."""
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT):
                async for _ in self._chunks:
                    pass
        except (TimeoutError, httpx2.TransportError, httpx2.StreamError):
            return


def server_error() -> ModelError:
    return ModelError("server_error", SORRY)
