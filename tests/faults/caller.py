"""A client as the SDK is one: it sends again what was not answered, and goes on with streams; all of it is recorded."""

import asyncio
import hashlib
import json
import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import httpx2

from tests.faults.history import History, Json, Place, Request, StreamEnd, Told, now

AGAIN = frozenset({408, 409, 429, 500, 502, 503, 504, 507})
TIMEOUT = httpx2.Timeout(15.0, read=20.0)
SLOWEST = 2.0
"""Seconds between two tries, at most."""


class GaveUp(Exception):
    """The server did not answer for longer than the client is patient."""


@dataclass(frozen=True)
class Answered:
    """The answer that counted. Not `sure`: an earlier try may have worked too."""

    status: int
    body: Json
    sure: bool

    @property
    def ok(self) -> bool:
        return self.status < 300


@dataclass
class Reading:
    """A run's stream, as far as it was read."""

    run_id: str = ""
    place: Place = (0, 0)
    names: list[str] = field(default_factory=list[str])
    last: Json = field(default_factory=dict[str, object])
    how: str = "broken"


class Caller:
    """One user of some servers: tries go round among them."""

    def __init__(
        self,
        name: str,
        project: str,
        key: str,
        servers: Sequence[str],
        history: History,
        *,
        patience: float,
    ) -> None:
        self.name = name
        self.project = project
        self._servers = servers
        self._history = history
        self.patience = patience
        self._http = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {key}", "OpenAI-Beta": "assistants=v2"},
            timeout=TIMEOUT,
            limits=httpx2.Limits(max_connections=100, max_keepalive_connections=20),
        )
        self._turn = random.randrange(len(servers))

    @property
    def choices(self) -> int:
        """How many servers its requests go round among."""
        return len(self._servers)

    async def close(self) -> None:
        await self._http.aclose()

    async def get(self, path: str) -> Answered:
        return await self.send("GET", path)

    async def post(self, path: str, body: Json) -> Answered:
        return await self.send("POST", path, body)

    async def upload(self, name: str, content: bytes) -> Answered:
        body = {"filename": name, "sha256": hashlib.sha256(content).hexdigest()}
        return await self.send("POST", "/files", body, content=content)

    async def send(
        self, method: str, path: str, body: Json | None = None, *, content: bytes | None = None
    ) -> Answered:
        """Send until it is answered. Raises GaveUp."""
        deadline = now() + self.patience
        key = secrets.token_hex(12)
        sure = True
        for number in range(1_000):
            request = await self._once(method, path, body, content, key)
            if request.status is not None and request.status not in AGAIN:
                return Answered(request.status, request.answer or {}, sure)
            sure = sure and request.status in (409, 429)
            await self._pause(number, deadline, request)
        raise AssertionError("patience ends before")

    async def _pause(self, number: int, deadline: float, request: Request) -> None:
        if now() > deadline:
            raise GaveUp(f"{request.method} {request.path}: {request.status}")
        await asyncio.sleep(min(0.1 * 2**number, SLOWEST) * random.uniform(0.5, 1))

    def _address(self, path: str) -> str:
        self._turn += 1
        return self._servers[self._turn % len(self._servers)] + path

    async def _once(
        self, method: str, path: str, body: Json | None, content: bytes | None, key: str
    ) -> Request:
        began = now()
        headers = {"Idempotency-Key": key} if method == "POST" else {}
        try:
            if content is None:
                answer = await self._http.request(
                    method, self._address(path), json=body, headers=headers
                )
            else:
                answer = await self._http.post(
                    self._address(path),
                    data={"purpose": "assistants"},
                    files={"file": ((body or {})["filename"], content)},
                    headers=headers,
                )
        except httpx2.TransportError:
            return self._record(method, path, body, began)
        retry_after = answer.headers.get("retry-after")
        return self._record(
            method, path, body, began, answer.status_code, body_of(answer), retry_after
        )

    def _record(
        self,
        method: str,
        path: str,
        body: Json | None,
        began: float,
        status: int | None = None,
        answer: Json | None = None,
        retry_after: str | None = None,
    ) -> Request:
        """Write down a request that ends now; without a status it was not answered."""
        request = Request(
            self.name, self.project, method, path, body, began, now(), status, answer, retry_after
        )
        self._history.add(request)
        return request

    # Streams

    async def start(self, path: str, body: Json) -> Reading:
        """A POST with `stream: true`, read to its end; it is sent again until its run is known. Raises GaveUp."""
        deadline = now() + self.patience
        key = secrets.token_hex(12)
        for number in range(1_000):
            reading = Reading()
            request = await self._read(
                reading, "POST", path, body | {"stream": True}, {"Idempotency-Key": key}
            )
            if reading.run_id:
                return await self._to_the_end(reading, path)
            if request.status is not None and request.status not in AGAIN:
                return reading
            await self._pause(number, deadline, request)
        raise AssertionError("patience ends before")

    async def follow(self, path: str, run_id: str, after: Place = (0, 0)) -> Reading:
        """A run's events up to the end of its stream. Raises GaveUp."""
        reading = Reading(run_id, after)
        return await self._to_the_end(reading, path)

    async def _to_the_end(self, reading: Reading, path: str) -> Reading:
        """Go on with a stream that broke, where it broke."""
        deadline = now() + self.patience
        number = 0
        while reading.how != "done":
            thread = reading.last.get("thread_id") or path.split("/")[2]
            known = reading.place
            events = f"/threads/{thread}/runs/{reading.run_id}/events"
            headers = {"Last-Event-ID": f"{known[0]}-{known[1]}"}
            request = await self._read(reading, "GET", events, None, headers)
            if request.status in (400, 404) or reading.how == "done":
                break
            if reading.place != known:
                deadline, number = now() + self.patience, 0
            await self._pause(number, deadline, request)
            number += 1
        return reading

    async def _read(
        self,
        reading: Reading,
        method: str,
        path: str,
        body: Json | None,
        headers: Mapping[str, str],
    ) -> Request:
        began = now()
        reading.how = "broken"
        status: int | None = None
        retry_after: str | None = None
        answer: Json | None = None
        try:
            async with self._http.stream(
                method, self._address(path), json=body, headers=dict(headers)
            ) as response:
                status = response.status_code
                retry_after = response.headers.get("retry-after")
                if response.is_success:
                    reading.how = "silent"
                    await self._take_events(reading, response)
                else:
                    await response.aread()
                    answer = body_of(response)
        except httpx2.TransportError:
            reading.how = "broken"
        if status == 200:
            self._history.add(StreamEnd(self.name, reading.run_id, now(), reading.how))
            answer = reading.last or None
        told = status if answer or status != 200 else None
        return self._record(method, path, body, began, told, answer, retry_after)

    async def _take_events(self, reading: Reading, response: httpx2.Response) -> None:
        block: dict[str, str] = {}
        async for line in response.aiter_lines():
            if line:
                name, _, value = line.partition(": ")
                block[name] = value
            elif block:
                self._take(reading, block)
                block = {}

    def _take(self, reading: Reading, block: Mapping[str, str]) -> None:
        name = block.get("event")
        if name == "done":
            reading.how = "done"
        elif name == "error":
            reading.how = "error"
        elif name is not None:
            data: Json = json.loads(block["data"])
            epoch, _, seq = block["id"].partition("-")
            reading.place = int(epoch), int(seq)
            reading.names.append(name)
            if data.get("object") == "thread.run":
                reading.run_id = data["id"]
                reading.last = data
            if reading.run_id or name != "thread.created":
                told = Told(
                    self.name, self.project, reading.run_id, now(), reading.place, name, data
                )
                self._history.add(told)


def body_of(answer: httpx2.Response) -> Json:
    if "json" in answer.headers.get("content-type", ""):
        return answer.json()
    return {"sha256": hashlib.sha256(answer.content).hexdigest()}
