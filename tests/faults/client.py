"""A client that believes nothing: it keeps every event it was sent and checks that they tell one story."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import httpx2

from tests.faults.processes import KEY, Server, until

Json = dict[str, Any]
FUNCTION: Json = {"type": "function", "function": {"name": "look", "parameters": {}}}
ENDS = ("completed", "incomplete", "failed", "cancelled", "expired")
RUN_ENDS = frozenset(f"thread.run.{status}" for status in (*ENDS, "requires_action"))
CLOSES = frozenset(
    (
        *(
            f"thread.run.step.{status}"
            for status in ("completed", "failed", "cancelled", "expired")
        ),
        "thread.message.completed",
        "thread.message.incomplete",
    )
)


@dataclass(frozen=True)
class Event:
    """One event as it came: `place` is its id, in the order of ids."""

    name: str
    data: Json
    place: tuple[int, ...]


@dataclass
class Stream:
    """An answer that is read in the background. `broken` when its connection was lost."""

    events: list[Event] = field(default_factory=list[Event])
    status: int = 0
    done: bool = False
    broken: bool = False
    error: str | None = None
    _id: str = ""

    @property
    def last_id(self) -> str:
        """What a client resumes with."""
        return self._id

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]

    @property
    def ended(self) -> bool:
        return self.done or self.broken or self.error is not None

    def go_on(self, rest: "Stream") -> None:
        """The same stream, resumed."""
        self.events.extend(rest.events)
        self.done = rest.done
        self._id = rest.last_id or self._id

    async def deltas(self, count: int) -> None:
        await until(
            lambda: self.names.count("thread.message.delta") >= count, f"{count} deltas arrived"
        )

    async def end(self, *, within: float = 30.0) -> float:
        return await until(lambda: self.ended, "the stream ended", within=within)

    async def read(self, answer: httpx2.Response) -> None:
        self.status = answer.status_code
        block: dict[str, str] = {}
        try:
            async for line in answer.aiter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    block[name] = value
                elif block:
                    self._take(block)
                    block = {}
        except httpx2.TransportError:
            pass
        self.broken = not self.done and self.error is None

    def _take(self, block: Mapping[str, str]) -> None:
        match block.get("event"):
            case None:
                pass  # a comment
            case "done":
                self.done = True
            case "error":
                self.error = json.loads(block["data"])["error"]["message"]
            case name:
                self._id = block["id"]
                place = tuple(map(int, self._id.split("-")))
                self.events.append(Event(name, json.loads(block["data"]), place))


@dataclass
class Started:
    """A run that was created."""

    id: str
    thread_id: str

    @property
    def path(self) -> str:
        return f"/threads/{self.thread_id}/runs/{self.id}"


class Client:
    """One user of a server; a request is sent once."""

    def __init__(self, server: Server) -> None:
        self._http = httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{server.port}/v1",
            headers={"Authorization": f"Bearer {KEY}", "OpenAI-Beta": "assistants=v2"},
            timeout=30,
            limits=httpx2.Limits(max_connections=100, max_keepalive_connections=100),
        )
        self._assistants: dict[bool, str] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def get(self, path: str) -> Json:
        answer = await self._http.get(path)
        answer.raise_for_status()
        return answer.json()

    async def try_post(self, path: str, body: Json | None = None) -> httpx2.Response:
        return await self._http.post(path, json=body)

    async def post(self, path: str, body: Json | None = None) -> Json:
        answer = await self.try_post(path, body)
        assert answer.is_success, answer.text
        return answer.json()

    async def delete(self, path: str) -> httpx2.Response:
        return await self._http.delete(path)

    async def upload(self, name: str, content: bytes) -> str:
        """The id of a new File."""
        answer = await self.try_upload(name, content)
        assert answer.is_success, answer.text
        return answer.json()["id"]

    async def try_upload(self, name: str, content: bytes) -> httpx2.Response:
        form = {"purpose": "assistants"}
        return await self._http.post("/files", data=form, files={"file": (name, content)})

    async def content(self, file_id: str) -> bytes:
        answer = await self._http.get(f"/files/{file_id}/content")
        assert answer.is_success, answer.text
        return answer.content

    async def assistant(self, *, with_function: bool = False) -> str:
        if with_function not in self._assistants:
            tools = [FUNCTION] if with_function else []
            made = await self.post("/assistants", {"model": "scripted", "tools": tools})
            self._assistants[with_function] = made["id"]
        return self._assistants[with_function]

    async def thread(self, text: str) -> str:
        made = await self.post("/threads", {"messages": [{"role": "user", "content": text}]})
        return made["id"]

    async def begin(self, text: str, *, with_function: bool = False) -> Started:
        """A new thread with this message, and a run on it."""
        body = await self.order(text, with_function=with_function)
        run = await self.post("/threads/runs", body)
        return Started(run["id"], run["thread_id"])

    async def order(self, text: str, *, with_function: bool = False) -> Json:
        return {
            "assistant_id": await self.assistant(with_function=with_function),
            "thread": {"messages": [{"role": "user", "content": text}]},
        }

    async def run(self, run: Started) -> Json:
        return await self.get(run.path)

    async def reaches(self, run: Started, *statuses: str, within: float = 30.0) -> float:
        """Wait until the run has one of the statuses; answers with the seconds it took."""
        seen = ""

        async def reached() -> bool:
            nonlocal seen
            seen = (await self.run(run))["status"]
            assert seen in statuses or seen not in ENDS, f"the run is {seen}"
            return seen in statuses

        # Seldom: each look costs as much processor time as the run's own next word.
        return await until(reached, f"the run is {statuses}", within=within, every=0.1)

    async def messages(self, run: Started) -> list[Json]:
        """The run's own messages."""
        listed = await self.get(f"/threads/{run.thread_id}/messages?run_id={run.id}&order=asc")
        return listed["data"]

    async def steps(self, run: Started) -> list[Json]:
        return (await self.get(f"{run.path}/steps?order=asc&limit=100"))["data"]

    @asynccontextmanager
    async def following(
        self, run: Started, *, after: str = "", last_event_id: str = ""
    ) -> AsyncGenerator[Stream]:
        """The run's events, from the beginning or from where a client stopped."""
        query = f"?after={after}" if after else ""
        headers = {"Last-Event-ID": last_event_id} if last_event_id else None
        request = self._http.build_request("GET", f"{run.path}/events{query}", headers=headers)
        async with self._reading(request) as stream:
            yield stream

    @asynccontextmanager
    async def streaming(self, path: str, body: Json) -> AsyncGenerator[Stream]:
        """A POST with `stream: true`."""
        request = self._http.build_request("POST", path, json=body | {"stream": True})
        async with self._reading(request) as stream:
            yield stream

    @asynccontextmanager
    async def _reading(self, request: httpx2.Request) -> AsyncGenerator[Stream]:
        answer = await self._http.send(request, stream=True)
        stream = Stream()
        reading = asyncio.create_task(stream.read(answer))
        try:
            yield stream
        finally:
            reading.cancel()
            await asyncio.wait([reading])
            await answer.aclose()


def retell(events: Sequence[Event]) -> dict[str, str]:
    """The text of each message that was completed, as its deltas told it.

    Asserts what SDKs rely on (BEHAVIOURS 8.7): no event twice, one open step and one open message at a time, deltas
    only for the open ones, nothing after the end.
    """
    opened: dict[str, str | None] = {"step": None, "message": None}
    seen: set[str] = set()
    texts: dict[str, str] = {}
    completed: dict[str, str] = {}
    place: tuple[int, ...] = ()
    for at, event in enumerate(events):
        assert event.place > place, f"{event.place} after {place}"
        place = event.place
        assert event.name not in RUN_ENDS or at == len(events) - 1, f"events after {event.name}"
        kind = kind_of(event.name)
        if kind is None:
            continue
        object_id: str = event.data["id"]
        if event.name.endswith(".created"):
            assert opened[kind] is None, f"{object_id} opened beside {opened[kind]}"
            assert object_id not in seen
            seen.add(object_id)
            opened[kind] = object_id
        elif kind == "message" or object_id in seen:
            assert opened[kind] == object_id, f"{event.name} for {object_id}, open: {opened[kind]}"
        if event.name == "thread.message.delta":
            [part] = event.data["delta"]["content"]
            texts[object_id] = texts.get(object_id, "") + part["text"]["value"]
        if event.name in CLOSES:
            opened[kind] = None
        if event.name == "thread.message.completed":
            completed[object_id] = texts.get(object_id, "")
            assert text_of(event.data) == completed[object_id]
    return completed


def kind_of(name: str) -> str | None:
    if name.startswith("thread.run.step."):
        return "step"
    return "message" if name.startswith("thread.message.") else None


def text_of(message: Json) -> str:
    return "".join(part["text"]["value"] for part in message["content"])


async def check_told_once(client: Client, run: Started, *answers: str) -> Json:
    """The run's messages are these answers, whole, each written by one completed step and each seen once."""
    messages = await client.messages(run)
    assert [(one["status"], text_of(one)) for one in messages] == [
        ("completed", answer) for answer in answers
    ]
    steps = [step for step in await client.steps(run) if step["status"] == "completed"]
    written = [
        step["step_details"]["message_creation"]["message_id"]
        for step in steps
        if step["type"] == "message_creation"
    ]
    assert written == [message["id"] for message in messages]
    return await client.run(run)


async def check_story(client: Client, run: Started, events: Sequence[Event]) -> None:
    """The streamed messages are the stored ones."""
    stored = {one["id"]: text_of(one) for one in await client.messages(run)}
    assert retell(events) == stored
