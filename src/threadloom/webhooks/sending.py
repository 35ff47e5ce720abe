"""One event to one endpoint: signed by the rules of Standard Webhooks, which `openai.webhooks` verifies."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx2
from standardwebhooks import Webhook

from threadloom import __version__
from threadloom.backoff import retry_after
from threadloom.outbound import AddressRefused, read_limited

MAX_BODY = 4_096
"""Bytes of an answer that are read, so that its connection can be used again; a longer one is left alone."""
GONE = 410


@dataclass(frozen=True)
class Letter:
    """What is sent, and where to. Each secret makes a signature: for a while after a rotation there are two."""

    url: str
    secrets: Sequence[str]
    event_id: str
    payload: str

    def headers(self, now: float) -> dict[str, str]:
        at = datetime.fromtimestamp(int(now), UTC)
        signatures = [
            Webhook(secret).sign(self.event_id, at, self.payload) for secret in self.secrets
        ]
        return {
            "content-type": "application/json",
            "user-agent": f"threadloom/{__version__}",
            "webhook-id": self.event_id,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": " ".join(signatures),
        }


@dataclass(frozen=True)
class Reply:
    """How an attempt went; `error` is a sentence for the log, None when the event was taken."""

    status: int | None
    error: str | None
    retry_after: float = 0.0


async def send(client: httpx2.AsyncClient, letter: Letter, *, now: float, timeout: float) -> Reply:  # noqa: ASYNC109 (a limit of the endpoint's, that its log tells of)
    """Never raises for what an endpoint does. Redirects are not followed."""
    try:
        async with asyncio.timeout(timeout):
            status, headers = await post(client, letter, now)
    except AddressRefused as refused:
        return Reply(None, str(refused))
    except (TimeoutError, httpx2.TimeoutException):
        return Reply(None, f"The endpoint did not answer within {timeout:g} s.")
    except httpx2.ConnectError:
        return Reply(None, "No connection could be made to the endpoint.")
    except (httpx2.HTTPError, httpx2.InvalidURL):
        return Reply(None, "The connection to the endpoint broke.")
    return Reply(status, refusal_of(status), retry_after(headers, now=now) or 0.0)


async def post(
    client: httpx2.AsyncClient, letter: Letter, now: float
) -> tuple[int, Mapping[str, str]]:
    async with client.stream(
        "POST",
        letter.url,
        content=letter.payload.encode(),
        headers=letter.headers(now),
        follow_redirects=False,
    ) as response:
        length = response.headers.get("content-length", "")
        if length.isdecimal() and int(length) <= MAX_BODY:
            await read_limited(response, MAX_BODY)
        return response.status_code, response.headers


def refusal_of(status: int) -> str | None:
    if httpx2.codes.is_success(status):
        return None
    if httpx2.codes.is_redirect(status):
        return f"The endpoint answered with status {status}; redirects are not followed."
    return f"The endpoint answered with status {status}."
