"""Speaks the API as raw HTTP: what is sent is seen to the byte."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import orjson

from threadloom.eventlog import ENDS

Json = dict[str, Any]
TRANSCRIPTS = Path(__file__).parent / "transcripts"
RESTING = frozenset(name.removeprefix("thread.run.") for name in ENDS)
FUNCTION: Json = {"type": "function", "function": {"name": "weather"}}
CODE: Json = {"type": "code_interpreter"}


@dataclass(frozen=True)
class Sse:
    """One event as it was received."""

    name: str
    data: str
    id: str | None

    @property
    def json(self) -> Json:
        return orjson.loads(self.data)


class Stream:
    """A response's events as they arrive; `text` is all that was read."""

    def __init__(self, response: httpx2.Response) -> None:
        self.text = ""
        self.events: list[Sse] = []
        self._arriving = self._parsed(response)

    async def until(self, name: str, count: int = 1) -> Sse:
        """Read on to the next event of this name, or the `count`th next."""
        async for event in self._arriving:
            count -= event.name == name
            if not count:
                return event
        raise AssertionError(f"The stream ended without {name}:\n{self.text}")

    async def rest(self) -> str:
        """Read to the end."""
        async for _ in self._arriving:
            pass
        return self.text

    async def _parsed(self, response: httpx2.Response) -> AsyncIterator[Sse]:
        unread = ""
        async for chunk in response.aiter_text():
            self.text += chunk
            *blocks, unread = (unread + chunk).split("\n\n")
            for block in blocks:
                if not block.startswith(":"):
                    self.events.append(parsed(block))
                    yield self.events[-1]


def parsed(block: str) -> Sse:
    fields = dict(line.split(": ", 1) for line in block.split("\n"))
    return Sse(fields["event"], fields["data"], fields.get("id"))


def parsed_all(text: str) -> list[Sse]:
    return [parsed(block) for block in text.split("\n\n")[:-1]]


@dataclass(frozen=True)
class Api:
    """The API."""

    http: httpx2.AsyncClient

    async def call(self, method: str, path: str, body: Json | None = None) -> httpx2.Response:
        return await self.http.request(method, path, json=body)

    async def get(self, path: str) -> Json:
        return self._accepted(await self.call("GET", path))

    async def post(self, path: str, body: Json | None = None) -> Json:
        return self._accepted(await self.call("POST", path, body))

    async def delete(self, path: str) -> Json:
        return self._accepted(await self.call("DELETE", path))

    async def refused(self, path: str, body: Json | None = None) -> str:
        """The sentence of a 400."""
        response = await self.call("POST", path, body)
        assert response.status_code == 400, response.text
        return response.json()["error"]["message"]

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Stream]:
        async with self.http.stream(
            method, path, json=body, params=params, headers=headers
        ) as response:
            assert response.status_code == 200, await response.aread()
            yield Stream(response)

    async def talk(self, *texts: str, **assistant: Any) -> "Talk":
        """A thread with these messages of the user, and an assistant."""
        made = await self.post("/assistants", {"model": "gpt-4o"} | assistant)
        messages = [{"role": "user", "content": text} for text in texts or ("Hi",)]
        thread = await self.post("/threads", {"messages": messages})
        return Talk(self, thread["id"], made["id"])

    @staticmethod
    def _accepted(response: httpx2.Response) -> Json:
        assert response.status_code == 200, response.text
        return response.json()


@dataclass(frozen=True)
class Talk:
    """One thread and one assistant."""

    api: Api
    thread: str
    assistant: str

    @property
    def path(self) -> str:
        return f"/threads/{self.thread}"

    def run_path(self, run: Json | str) -> str:
        return f"{self.path}/runs/{run if isinstance(run, str) else run['id']}"

    async def run(self, **options: Any) -> Json:
        """Create a run."""
        return await self.api.post(f"{self.path}/runs", {"assistant_id": self.assistant} | options)

    async def ask(self, **options: Any) -> Json:
        """A run that has come to rest."""
        return await self.rested(await self.run(**options))

    @asynccontextmanager
    async def streamed(self, **options: Any) -> AsyncGenerator[Stream]:
        """Create a run and read its stream."""
        body = {"assistant_id": self.assistant, "stream": True} | options
        async with self.api.stream("POST", f"{self.path}/runs", body) as stream:
            yield stream

    async def transcript(self, **options: Any) -> str:
        """The whole stream of a new run."""
        async with self.streamed(**options) as stream:
            return await stream.rest()

    @asynccontextmanager
    async def followed(self, run: Json | str, after: str | None = None) -> AsyncGenerator[Stream]:
        """The run's events, from the beginning or after an event."""
        params = {"after": after} if after else {}
        async with self.api.stream("GET", f"{self.run_path(run)}/events", params=params) as stream:
            yield stream

    async def events(self, run: Json | str, after: str | None = None) -> str:
        async with self.followed(run, after) as stream:
            return await stream.rest()

    async def rested(self, run: Json | str) -> Json:
        """The run once it waits for nobody but its client."""
        after: str | None = None
        while True:
            async with self.followed(run, after) as stream:
                await stream.rest()
                after = next((one.id for one in reversed(stream.events) if one.id), after)
            now = await self.api.get(self.run_path(run))
            if now["status"] in RESTING:
                return now

    async def until(self, run: Json | str, *statuses: str) -> Json:
        """The run once it has one of these statuses; what no event announces is polled for."""
        while (now := await self.api.get(self.run_path(run)))["status"] not in statuses:
            pass
        return now

    async def cancel(self, run: Json | str) -> Json:
        return await self.api.post(f"{self.run_path(run)}/cancel")

    async def submit(self, run: Json, *outputs: str) -> Json:
        """Answer the pending calls in their order."""
        return await self.api.post(
            f"{self.run_path(run)}/submit_tool_outputs", answers(run, *outputs)
        )

    async def submitted(self, run: Json, *outputs: str) -> str:
        """The stream of an answer to the pending calls."""
        body = answers(run, *outputs) | {"stream": True}
        path = f"{self.run_path(run)}/submit_tool_outputs"
        async with self.api.stream("POST", path, body) as stream:
            return await stream.rest()

    async def messages(self) -> list[Json]:
        """Oldest first."""
        return (await self.api.get(f"{self.path}/messages?order=asc&limit=100"))["data"]

    async def said(self) -> list[str]:
        """The texts of the thread, oldest first."""
        return [text_of(message) for message in await self.messages()]

    async def steps(self, run: Json | str) -> list[Json]:
        """Oldest first."""
        return (await self.api.get(f"{self.run_path(run)}/steps?order=asc&limit=100"))["data"]


def answers(run: Json, *outputs: str) -> Json:
    calls = pending(run)
    return {
        "tool_outputs": [
            {"tool_call_id": call, "output": output}
            for call, output in zip(calls, outputs, strict=True)
        ]
    }


def pending(run: Json) -> list[str]:
    """The ids of the calls that wait for the client."""
    return [call["id"] for call in run["required_action"]["submit_tool_outputs"]["tool_calls"]]


def text_of(message: Json) -> str:
    return "".join(
        part["text"]["value"] if part["type"] == "text" else part.get("refusal", "")
        for part in message["content"]
    )


def parts_of(message: Json) -> list[str]:
    """The texts of a message and the Files of its pictures."""
    return [content_of(part) for part in message["content"]]


def streamed_parts(events: Iterable[Sse]) -> dict[str, list[str]]:
    """The same by message, as the deltas add up to it."""
    streamed: dict[str, list[str]] = {}
    for event in events:
        if event.name == "thread.message.delta":
            parts = streamed.setdefault(event.json["id"], [])
            for part in event.json["delta"]["content"]:
                if part["index"] == len(parts):
                    parts.append("")
                parts[part["index"]] += content_of(part)
    return streamed


def content_of(part: Json) -> str:
    match part["type"]:
        case "text":
            return part["text"]["value"]
        case "image_file":
            return part["image_file"]["file_id"]
        case _:
            return part["refusal"]


def calls_of(step: Json) -> list[Json]:
    return step["step_details"].get("tool_calls", [])


def streamed_calls(events: Iterable[Sse]) -> dict[str, list[Json]]:
    """The calls of each step, as its deltas add up to them. When one begins, nothing more may come of the one before."""
    streamed: dict[str, list[Json]] = {}
    for event in events:
        if event.name == "thread.run.step.delta":
            calls = streamed.setdefault(event.json["id"], [])
            for piece in event.json["delta"]["step_details"]["tool_calls"]:
                index = piece.pop("index")
                if index == len(calls):
                    calls.append(piece)
                else:
                    assert index == len(calls) - 1, event.data
                    add_to_call(calls[-1][piece["type"]], piece[piece["type"]])
    return streamed


def add_to_call(call: Json, piece: Json) -> None:
    for name, more in piece.items():
        if name == "outputs":
            numbers = [output.pop("index") for output in more]
            assert numbers == list(range(len(call[name]), len(call[name]) + len(more)))
        call[name] += more


def names(text: str) -> list[str]:
    """The names of a stream's events."""
    return [event.name for event in parsed_all(text)]


def assert_transcript(name: str, text: str) -> None:
    """Compare with the golden transcript; a missing one is written, to be looked at."""
    path = TRANSCRIPTS / f"{name}.sse"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        raise AssertionError(f"{path} was missing. It is written now: look at it.")
    assert text == path.read_text()
