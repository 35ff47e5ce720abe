"""Any server that speaks OpenAI's `/v1/embeddings`, as an Embedder."""

import asyncio
import base64
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice

import httpx2
import numpy as np
import structlog
from pydantic import BaseModel, ValidationError

from threadloom.config import Embeddings
from threadloom.retrieval.embedder import EmbeddingError, Vector, Windows

log = structlog.stdlib.get_logger()

CONNECT_TIMEOUT = 5.0
RETRIABLE = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
)

UNREACHABLE = "The embedding provider could not be reached. Try again later."
FAILED = "The embedding provider failed. Try again later."
LIMITED = "The embedding provider's rate limit is reached. Try again later."
UNFIT = "The embedding provider's answer does not fit the request."
BAD_KEY = (
    "The embedding provider does not accept this server's key. "
    "The operator should check THREADLOOM_EMBEDDINGS__API_KEY."
)


@dataclass(frozen=True)
class Backoff:
    """How long to wait before a further try, when the provider does not say."""

    first: float = 0.5
    longest: float = 8.0
    longest_asked: float = 30.0
    jitter: Callable[[], float] = random.random

    def seconds(self, attempt: int, asked: float | None) -> float:
        """A provider's wish is met up to `longest_asked`; otherwise half the delay is chance."""
        if asked is not None:
            return min(asked, self.longest_asked)
        return min(self.first * 2**attempt, self.longest) * (0.5 + self.jitter() / 2)


@dataclass(frozen=True)
class Patience:
    """How often to try, and how long to wait for an answer each time."""

    tries: int
    seconds: float


# Somebody waits for a query; a file can wait until a provider has recovered.
FOR_QUERY = Patience(3, 15.0)
FOR_PASSAGES = Patience(6, 120.0)


class Refused(Exception):
    """A try that failed: what the client will see, and what the next try needs."""

    def __init__(
        self, shown: str, *, retriable: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(shown)
        self.shown = shown
        self.retriable = retriable
        self.retry_after = retry_after


class Item(BaseModel):
    """One vector of an answer: numbers, or the bytes of little-endian floats."""

    index: int
    embedding: list[float] | str


class Answer(BaseModel):
    data: list[Item]


class RemoteEmbedder:
    """One window for each text: such models read thousands of tokens. The client is its own."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        settings: Embeddings,
        model: str,
        *,
        backoff: Backoff | None = None,
    ) -> None:
        self.model = model
        self._client = client
        self._url = (settings.base_url or "").rstrip("/") + "/embeddings"
        self._settings = settings
        self._backoff = backoff or Backoff()
        key = settings.api_key
        self._headers = {"authorization": f"Bearer {key.get_secret_value()}"} if key else {}

    def weight_for(self, query: str) -> float:  # noqa: ARG002 - what its model understands is not known
        return self._settings.weight

    async def embed_passages(self, texts: Sequence[str]) -> list[Windows]:
        waiting = iter(texts)
        windows: list[Windows] = []
        while batch := [*islice(waiting, self._settings.batch)]:
            vectors = await self._embed(batch, FOR_PASSAGES)
            windows += np.split(vectors, len(batch))
        return windows

    async def embed_query(self, text: str) -> Vector:
        vectors = await self._embed([text], FOR_QUERY)
        return vectors[0]

    async def close(self) -> None:
        await self._client.aclose()

    async def _embed(self, texts: list[str], patience: Patience) -> Windows:
        """A row for each text."""
        for attempt in range(patience.tries):
            try:
                return vectors_of(
                    await self._try(texts, patience.seconds), len(texts), self._settings
                )
            except Refused as refused:
                log.warning(
                    "embedding call failed",
                    reason=refused.shown,
                    texts=len(texts),
                    attempt=attempt + 1,
                )
                if not refused.retriable or attempt + 1 == patience.tries:
                    raise EmbeddingError(refused.shown) from None
                await asyncio.sleep(self._backoff.seconds(attempt, refused.retry_after))
        raise AssertionError

    async def _try(self, texts: list[str], seconds: float) -> bytes:
        body: dict[str, object] = {"model": self.model, "input": texts, "encoding_format": "base64"}
        if self._settings.dimensions is not None:
            body["dimensions"] = self._settings.dimensions
        timeout = httpx2.Timeout(seconds, connect=CONNECT_TIMEOUT)
        try:
            async with asyncio.timeout(seconds):
                response = await self._client.post(
                    self._url, json=body, headers=self._headers, timeout=timeout
                )
        except (httpx2.TransportError, TimeoutError):
            raise Refused(UNREACHABLE, retriable=True) from None
        if response.status_code != HTTPStatus.OK:
            raise self._refused(response)
        return response.content

    def _refused(self, response: httpx2.Response) -> Refused:
        status = response.status_code
        server_fault = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        return Refused(
            self._sentence(status),
            retriable=status in RETRIABLE or server_fault,
            retry_after=retry_after(response.headers.get("retry-after", "")),
        )

    def _sentence(self, status: int) -> str:
        """The provider's own words stay here: they may hold its key, or a customer's text."""
        match status:
            case 401 | 403:
                return BAD_KEY
            case 404:
                return (
                    f"The embedding provider has no model '{self.model}' at its address. The operator should check "
                    "THREADLOOM_EMBEDDINGS__MODEL and that THREADLOOM_EMBEDDINGS__BASE_URL ends in /v1."
                )
            case 400 | 413 | 422:
                return (
                    f"The embedding provider refused a text as input of the model '{self.model}'. "
                    "It may be too long: use smaller chunks."
                )
            case 429:
                return LIMITED
            case _:
                return FAILED


def vectors_of(content: bytes, count: int, settings: Embeddings) -> Windows:
    """The answer's vectors in the order of the request, at unit length. Raises Refused."""
    try:
        items = Answer.model_validate_json(content).data
        by_index = {item.index: decoded(item.embedding) for item in items}
        vectors = np.stack([by_index[index] for index in range(count)])
    except (ValidationError, KeyError, ValueError):
        raise Refused(UNFIT) from None
    if settings.dimensions not in {None, vectors.shape[1]}:
        raise Refused(
            f"The embedding provider answers with {vectors.shape[1]} dimensions. "
            "The operator should check THREADLOOM_EMBEDDINGS__DIMENSIONS."
        )
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise Refused(UNFIT)
    return vectors / lengths


def decoded(embedding: list[float] | str) -> Vector:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")
    return np.array(embedding, np.float32)


def retry_after(value: str) -> float | None:
    """Seconds; a date, which only proxies send, counts as no wish."""
    return float(value) if re.fullmatch(r"\d+(\.\d+)?", value) else None
