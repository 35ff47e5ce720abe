"""A receiver of webhooks: verifies with `openai.webhooks`, remembers what it took, answers as it is told to."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
from openai import InvalidWebhookSignatureError, OpenAI

from tests.faults.processes import until

LOCAL = {"allow": ["127.0.0.0/8"]}
"""Settings of a server that may call receivers on this machine."""
SDK = OpenAI(api_key="unused")
AnyReceiver = TypeVar("AnyReceiver", bound="Receiver")


@dataclass(frozen=True)
class Answer:
    """An answer of the receiver's; `never` gives none."""

    status: int = 200
    headers: tuple[str, ...] = ()
    never: bool = False
    length: int = 2
    """What it says of its body, which has two bytes."""


@dataclass(frozen=True)
class Received:
    """A request whose signature was right."""

    webhook_id: str
    event: dict[str, Any]
    answer: Answer

    @property
    def about(self) -> str:
        """The run, file or batch."""
        return self.event["data"].get("run_id", self.event["data"]["id"])


@dataclass
class Receiver:
    """What it was sent, in order; `taken` are those that it answered with success."""

    port: int = 0
    secrets: list[str] = field(default_factory=list[str])
    received: list[Received] = field(default_factory=list[Received])
    forged: int = 0
    connections: int = 0
    choose: Callable[[Received], Answer] = lambda _: Answer()
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def taken(self) -> list[Received]:
        return [one for one in self.received if one.answer.status < 300 and not one.answer.never]

    def types(self, about: str | None = None) -> list[str]:
        """The types that were taken, of one object or all, each event once."""
        once = {one.webhook_id: one for one in self.taken}
        return [one.event["type"] for one in once.values() if about in (None, one.about)]

    async def has(self, *types: str, about: str | None = None, within: float = 20.0) -> None:
        """Wait for exactly these, in this order."""
        await until(lambda: len(self.types(about)) >= len(types), f"{types} came", within=within)
        assert self.types(about) == list(types)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await read_head(reader):
                body = await reader.readexactly(int(head["content-length"]))
                await self.respond(writer, self.judge(body, head))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def judge(self, body: bytes, head: dict[str, str]) -> Answer:
        if not verified(body, head, self.secrets):
            self.forged += 1
            return Answer(400)
        event = orjson.loads(body)
        answer = self.choose(Received(head["webhook-id"], event, Answer()))
        self.received.append(Received(head["webhook-id"], event, answer))
        return answer

    async def respond(self, writer: asyncio.StreamWriter, answer: Answer) -> None:
        if answer.never:
            await self.closed.wait()
        lines = [
            f"HTTP/1.1 {answer.status} X",
            f"content-length: {answer.length}",
            *answer.headers,
            "",
            "ok",
        ]
        writer.write("\r\n".join(lines).encode())
        await writer.drain()


def failing_first() -> Callable[[Received], Answer]:
    """Fails half of the time: each event's first attempt, and its third."""
    attempts: Counter[str] = Counter()

    def choose(one: Received) -> Answer:
        attempts[one.webhook_id] += 1
        return Answer(500 if attempts[one.webhook_id] % 2 else 200)

    return choose


async def read_head(reader: asyncio.StreamReader) -> dict[str, str]:
    """The headers of the next request; none when the connection ends."""
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
    except asyncio.IncompleteReadError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name.lower(): value.strip() for name, _, value in pairs}


def verified(body: bytes, head: dict[str, str], secrets: Sequence[str]) -> bool:
    """Whether the SDK takes it with one of these secrets."""
    for secret in secrets:
        try:
            SDK.webhooks.verify_signature(body, head, secret=secret)
        except InvalidWebhookSignatureError:
            continue
        return True
    return False


@asynccontextmanager
async def receiving() -> AsyncGenerator[Receiver]:
    async with reached(Receiver()) as receiver:
        yield receiver


@asynccontextmanager
async def reached(receiver: AnyReceiver) -> AsyncGenerator[AnyReceiver]:
    """Let it be called at its port while the block runs."""
    server = await asyncio.start_server(receiver.handle, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        receiver.closed.set()
        server.close()
        await asyncio.sleep(0)
