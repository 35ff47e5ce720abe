"""What reads passages against a question once more, as search uses it; and any server that speaks `/rerank`."""

import asyncio
import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Protocol

import httpx2
from pydantic import AliasChoices, BaseModel, Field, FiniteFloat, ValidationError

from threadloom.backoff import Backoff
from threadloom.config import RerankerSettings, Settings
from threadloom.retrieval.remote import Address, Patience, Refused, Remote

TRIES = 3
NAME = "reranker"
UNFIT = f"The {NAME}'s answer does not fit the request."

ROUNDING = 1e-3
"""How far rounding may put a share outside 0 to 1; what is farther out is no share."""


class RerankError(Exception):
    """The reranker does not answer; the sentence is for the operator."""


class Reranker(Protocol):
    """Says how well passages answer a question; slower and better than what search found them by."""

    @property
    def candidates(self) -> int:
        """How many texts it is given for a question."""
        ...

    async def rerank(self, query: str, texts: Sequence[str]) -> Mapping[int, float]:
        """Scores between 0 and 1 by the text's place, maybe not for every text. Raises RerankError."""
        ...


class Result(BaseModel):
    index: int
    score: Annotated[FiniteFloat, Field(validation_alias=AliasChoices("relevance_score", "score"))]


class Answer(BaseModel):
    results: Annotated[list[Result], Field(min_length=1)]


class RemoteReranker:
    """A server that speaks `/rerank` as Jina and Cohere do. The client belongs to whoever made it."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        settings: RerankerSettings,
        *,
        backoff: Backoff | None = None,
    ) -> None:
        self.candidates = settings.candidates
        self._model = {} if settings.model is None else {"model": settings.model}
        self._seconds = settings.timeout
        self._remote = Remote(client, address_of(settings), backoff=backoff)
        self._gives_logits = False

    async def rerank(self, query: str, texts: Sequence[str]) -> dict[int, float]:
        body = {**self._model, "query": query, "documents": [*texts], "top_n": len(texts)}
        read = partial(scores_of, count=len(texts))
        try:
            # Somebody waits for this search: the tries share the time.
            async with asyncio.timeout(self._seconds):
                scores = await self._remote.ask(body, Patience(TRIES, self._seconds), read)
        except Refused as refused:
            raise RerankError(refused.shown) from None
        except TimeoutError:
            raise RerankError(f"The {NAME} did not answer in time.") from None
        # Logits may happen to lie between 0 and 1, too: a server that once gave others gives nothing else.
        self._gives_logits = self._gives_logits or not all(map(may_be_share, scores.values()))
        share = logistic if self._gives_logits else clipped
        return {index: share(score) for index, score in scores.items()}


def address_of(settings: RerankerSettings) -> Address:
    return Address(
        NAME,
        (settings.base_url or "").rstrip("/") + "/rerank",
        settings.api_key,
        key_setting="THREADLOOM_RERANKER__API_KEY",
        lost=(
            f"The {NAME} is not at its address, or has no such model. The operator should check "
            "THREADLOOM_RERANKER__BASE_URL, to which /rerank is added, and THREADLOOM_RERANKER__MODEL."
        ),
        refused=f"The {NAME} refused a text. It may be too long: use smaller chunks, or another model.",
    )


def scores_of(content: bytes, count: int) -> dict[int, float]:
    """The answer's scores by the text's place. Raises Refused."""
    try:
        results = Answer.model_validate_json(content).results
    except ValidationError:
        raise Refused(UNFIT) from None
    scores = {result.index: result.score for result in results}
    if not scores.keys() <= {*range(count)}:
        raise Refused(UNFIT)
    return scores


def may_be_share(score: float) -> bool:
    return -ROUNDING <= score <= 1 + ROUNDING


def clipped(score: float) -> float:
    return min(max(score, 0.0), 1.0)


def logistic(score: float) -> float:
    """1 / (1 + e^-score), which would overflow where this does not."""
    return (1 + math.tanh(score / 2)) / 2


@asynccontextmanager
async def open_reranker(settings: Settings) -> AsyncGenerator[Reranker | None]:
    """The reranker that the settings ask for; by default none."""
    if settings.reranker.base_url is None:
        yield None
        return
    async with httpx2.AsyncClient() as client:
        yield RemoteReranker(client, settings.reranker)
