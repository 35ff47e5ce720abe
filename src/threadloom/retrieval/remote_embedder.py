"""Any server that speaks OpenAI's `/v1/embeddings`, as an Embedder."""

import base64
from collections.abc import Sequence
from functools import partial
from itertools import islice

import httpx2
import numpy as np
import structlog
from pydantic import BaseModel, ValidationError

from threadloom.backoff import Backoff
from threadloom.config import Embeddings
from threadloom.retrieval.embedder import EmbeddingError, Vector, Windows
from threadloom.retrieval.remote import Address, Patience, Refused, Remote

log = structlog.stdlib.get_logger()

NAME = "embedding provider"
UNFIT = f"The {NAME}'s answer does not fit the request."

# Somebody waits for a query; a file can wait until a provider has recovered.
FOR_QUERY = Patience(3, 15.0)
FOR_PASSAGES = Patience(6, 120.0)


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
        self._settings = settings
        self._client = client
        self._remote = Remote(client, address_of(settings, model), backoff=backoff)

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
        body: dict[str, object] = {"model": self.model, "input": texts, "encoding_format": "base64"}
        if self._settings.dimensions is not None:
            body["dimensions"] = self._settings.dimensions
        read = partial(vectors_of, count=len(texts), settings=self._settings)
        try:
            return await self._remote.ask(body, patience, read)
        except Refused as refused:
            log.warning("embedding call failed", reason=refused.shown, texts=len(texts))
            raise EmbeddingError(refused.shown) from None


def address_of(settings: Embeddings, model: str) -> Address:
    return Address(
        NAME,
        (settings.base_url or "").rstrip("/") + "/embeddings",
        settings.api_key,
        key_setting="THREADLOOM_EMBEDDINGS__API_KEY",
        lost=(
            f"The {NAME} has no model '{model}' at its address. The operator should check "
            "THREADLOOM_EMBEDDINGS__MODEL and that THREADLOOM_EMBEDDINGS__BASE_URL ends in /v1."
        ),
        refused=(
            f"The {NAME} refused a text as input of the model '{model}'. "
            "It may be too long: use smaller chunks."
        ),
    )


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
