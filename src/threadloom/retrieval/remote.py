"""Calls of a server that answers JSON to JSON, tried again after faults that pass."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

import httpx2
import structlog
from pydantic import SecretStr

from threadloom.backoff import Backoff, retry_after

log = structlog.stdlib.get_logger()

CONNECT_TIMEOUT = 5.0
RETRIABLE = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
)

Read = TypeVar("Read")


@dataclass(frozen=True)
class Patience:
    """How often to try, and how long to wait for an answer each time."""

    tries: int
    seconds: float


@dataclass(frozen=True)
class Address:
    """What is called, and what is said of its faults: its own words may hold its key, or a customer's text."""

    name: str
    url: str
    api_key: SecretStr | None
    key_setting: str
    lost: str
    """Said when there is nothing at the address."""
    refused: str
    """Said when the input is refused."""

    @property
    def headers(self) -> dict[str, str]:
        key = self.api_key
        return {"authorization": f"Bearer {key.get_secret_value()}"} if key else {}

    @property
    def unreachable(self) -> str:
        return f"The {self.name} could not be reached. Try again later."

    def sentence(self, status: int) -> str:
        match status:
            case 401 | 403:
                return (
                    f"The {self.name} does not accept this server's key. "
                    f"The operator should check {self.key_setting}."
                )
            case 404:
                return self.lost
            case 400 | 413 | 422:
                return self.refused
            case 429:
                return f"The {self.name}'s rate limit is reached. Try again later."
            case _:
                return f"The {self.name} failed. Try again later."


class Refused(Exception):
    """A try that failed: what may be said of it, and what the next try needs."""

    def __init__(
        self, shown: str, *, retriable: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(shown)
        self.shown = shown
        self.retriable = retriable
        self.retry_after = retry_after


class Remote:
    """One route of a server. The client belongs to whoever made it."""

    def __init__(
        self, client: httpx2.AsyncClient, address: Address, *, backoff: Backoff | None = None
    ) -> None:
        self._client = client
        self._address = address
        self._headers = address.headers
        self._backoff = backoff or Backoff()

    async def ask(
        self, body: Mapping[str, object], patience: Patience, read: Callable[[bytes], Read]
    ) -> Read:
        """What `read` makes of the answer's bytes. Raises Refused after the last try, as `read` may."""
        for attempt in range(patience.tries):
            try:
                return read(await self._try(body, patience.seconds))
            except Refused as refused:
                if not refused.retriable or attempt + 1 == patience.tries:
                    raise
                log.info("call is tried again", reason=refused.shown, attempt=attempt + 1)
                await asyncio.sleep(self._backoff.seconds(attempt, refused.retry_after))
        raise AssertionError

    async def _try(self, body: Mapping[str, object], seconds: float) -> bytes:
        timeout = httpx2.Timeout(seconds, connect=min(seconds, CONNECT_TIMEOUT))
        try:
            async with asyncio.timeout(seconds):
                response = await self._client.post(
                    self._address.url, json=body, headers=self._headers, timeout=timeout
                )
        except (httpx2.RequestError, TimeoutError):
            raise Refused(self._address.unreachable, retriable=True) from None
        if response.status_code != HTTPStatus.OK:
            raise self._refused(response)
        return response.content

    def _refused(self, response: httpx2.Response) -> Refused:
        status = response.status_code
        server_fault = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        return Refused(
            self._address.sentence(status),
            retriable=status in RETRIABLE or server_fault,
            retry_after=retry_after(response.headers),
        )
