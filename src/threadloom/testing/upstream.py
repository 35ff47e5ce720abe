"""A scripted Chat Completions, embeddings and reranking server on loopback, for black-box tests and benchmarks.

    python -m threadloom.testing.upstream --port 0 --tokens 20 --rate 0

What it answers is chosen by directives in the last message of a request (a user's, or a tool's output):

    [[text:Hello there]]        this text, one word a chunk     [[tokens:2000]]  so many chunks
    [[rate:50]]                 chunks a second, 0 is unpaced   [[delay:1.5]]    seconds before the headers
    [[tool:get_weather {"city":"Paris"}]]  a call; several are parallel         [[refuse:No.]]
    [[status:429 retry-after=1 times=2 code=rate_limit_exceeded message=Slow down]]
                                an error, only for the first `times` calls with this message
    [[drop-after:3]]            cut the connection after so many pieces
    [[hang]]  [[hang:headers]]  [[hang:3]]   stop before the headers, after them, after 3 pieces
    [[garbage]]  [[no-done]]  [[no-usage]]  [[no-finish]]  [[no-index]]  [[no-id]]  [[plain]]  [[crlf]]
    [[finish:content_filter]]

Without directives it answers `--tokens` chunks, or quotes the tool's output; embeddings are hashed words, reranking scores are the share
of the query's words in a text, and both obey `status` and `delay` in the last text or in the query. `GET /calls` counts the calls for
each last message; `answers(...)` queues whole answers ahead of the directives.
"""

import argparse
import asyncio
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import orjson

from threadloom.testing.scoring import Request, embeddings, rankings

DIRECTIVE = re.compile(r"\[\[([a-z-]+)(?::(.*?))?\]\](?!\])", re.DOTALL)
OPTION = re.compile(r"([a-z-]+)=(.*?)(?=\s+[a-z-]+=|$)", re.DOTALL)
DONE = b"data: [DONE]\n\n"
UNPACED_BATCH = 32


@dataclass(frozen=True)
class Answer:
    """One HTTP answer: `chunks` are body bytes, written one by one `rate` times a second."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("content-type", "text/event-stream"),)
    chunks: tuple[bytes, ...] = ()
    rate: float = 0.0
    delay: float = 0.0
    drop_after: int | None = None
    hang_after: int | None = None


@dataclass(frozen=True)
class Script:
    """The directives of one message."""

    values: dict[str, str]
    tools: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> "Script":
        found = DIRECTIVE.findall(text)
        return cls(dict(found), tuple(value for name, value in found if name == "tool"))

    def number(self, name: str) -> float | None:
        value = self.values.get(name, "")
        return float(value) if re.fullmatch(r"[\d.]+", value) else None

    def after(self, name: str) -> int | None:
        """A count of pieces, None when the directive does not name one; an empty chunk comes first."""
        number = self.number(name)
        return None if number is None else int(number) + 1


@dataclass
class Upstream:
    """The server; an async context manager, listening on loopback only."""

    port: int = 0
    tokens: int = 20
    rate: float = 0.0
    models: tuple[str, ...] = ("scripted",)
    requests: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    headers: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    calls: Counter[str] = field(default_factory=Counter[str])
    connections: int = 0
    _queued: deque[Answer] = field(default_factory=deque[Answer])
    _server: asyncio.Server | None = None
    _open: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = field(
        default_factory=dict[asyncio.StreamWriter, "asyncio.Task[None] | None"]
    )

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def answers(self, *answers: Answer) -> None:
        """Queue answers for the next calls, whatever they ask."""
        self._queued.extend(answers)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [task for task in self._open.values() if task]
        for writer in [*self._open]:
            writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open[writer] = asyncio.current_task()
        try:
            while await self._serve_one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client left, or the server stops
        finally:
            del self._open[writer]
            writer.transport.abort()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        start, *lines = head.strip().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        answer = self._choose(start.rpartition(" ")[0], headers, body)
        return await play(answer, writer)

    def _choose(self, target: str, headers: dict[str, str], body: bytes) -> Answer:
        match target:
            case "POST /v1/chat/completions":
                return self._complete(headers, orjson.loads(body))
            case "POST /v1/embeddings":
                request = orjson.loads(body)
                return self._score(headers, request, request["input"][-1], embeddings)
            case "POST /v1/rerank":
                request = orjson.loads(body)
                return self._score(headers, request, request["query"], rankings)
            case "GET /v1/models":
                return json_answer(
                    {"object": "list", "data": [describe(model) for model in self.models]}
                )
            case "GET /calls":
                return json_answer(self.calls)
            case _:
                return error_answer(404, {"message": f"Invalid URL ({target})"})

    def _complete(self, headers: dict[str, str], request: dict[str, Any]) -> Answer:
        self.requests.append(request)
        self.headers.append(headers)
        message = request["messages"][-1]
        text = text_of(message)
        self.calls[text] += 1
        if self._queued:
            return self._queued.popleft()
        script = Script.of(text)
        if message["role"] == "tool" and not script.values:
            script = Script({"text": f"The tool answered: {text}"})
        if "status" in script.values:
            failure = failing(script.values["status"], self.calls[text])
            if failure:
                return failure
        return self._scripted(script, request)

    def _score(
        self,
        headers: dict[str, str],
        request: Request,
        text: str,
        answer: Callable[[Request], Request],
    ) -> Answer:
        """The answer that `text` asks for, or what `answer` makes of the request."""
        self.requests.append(request)
        self.headers.append(headers)
        self.calls[text] += 1
        if self._queued:
            return self._queued.popleft()
        script = Script.of(text)
        status = script.values.get("status")
        failure = failing(status, self.calls[text]) if status else None
        return failure or json_answer(answer(request), delay=script.number("delay") or 0.0)

    def _scripted(self, script: Script, request: dict[str, Any]) -> Answer:
        count = script.number("tokens")
        pieces = words(script.values) or ["tok "] * (self.tokens if count is None else int(count))
        if script.tools and "text" not in script.values:
            pieces = []
        reply = Reply(script, request, tuple(pieces))
        if not request.get("stream") or "plain" in script.values:
            return json_answer(reply.completion(), delay=script.number("delay") or 0.0)
        return self._streamed(script, tuple(reply.chunks()))

    def _streamed(self, script: Script, chunks: tuple[bytes, ...]) -> Answer:
        hang = script.values.get("hang")
        rate = script.number("rate")
        if "crlf" in script.values:
            chunks = tuple(b": comment\r\n" + chunk.replace(b"\n", b"\r\n") for chunk in chunks)
        return Answer(
            chunks=chunks,
            rate=self.rate if rate is None else rate,
            delay=float("inf") if hang == "" else script.number("delay") or 0.0,
            drop_after=script.after("drop-after"),
            hang_after=0 if hang == "headers" else script.after("hang"),
        )


@dataclass(frozen=True)
class Reply:
    """What a model would say, as chunks or as one completion."""

    script: Script
    request: dict[str, Any]
    pieces: tuple[str, ...]

    def chunks(self) -> Iterator[bytes]:
        has = self.script.values.__contains__
        yield self._chunk({"role": "assistant", "content": ""})
        if has("garbage"):
            yield b'data: {"choices": [{"delta": {"content": \n\n'
        kind = "refusal" if has("refuse") else "content"
        ready = {piece: self._chunk({kind: piece}) for piece in {*self.pieces}}
        yield from (ready[piece] for piece in self.pieces)
        for index, call in enumerate(self.script.tools):
            yield from self._call(index, call)
        if not has("no-finish"):
            yield self._chunk({}, self._finish)
        if not has("no-usage"):
            yield frame({"choices": [], "usage": self._usage})
        if not has("no-done"):
            yield DONE

    def completion(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.pieces) or None}
        if self.script.tools:
            message["tool_calls"] = [tool_call(i, call) for i, call in enumerate(self.script.tools)]
        choice = {"index": 0, "message": message, "finish_reason": self._finish}
        return {"object": "chat.completion", "choices": [choice], "usage": self._usage}

    def _call(self, index: int, call: str) -> Iterator[bytes]:
        whole = tool_call(index, call)
        arguments: str = whole["function"]["arguments"]
        half = len(arguments) // 2
        if "no-index" in self.script.values:
            del whole["index"]
        if "no-id" in self.script.values:
            del whole["id"]
        first = whole | {"function": {**whole["function"], "arguments": arguments[:half]}}
        yield self._chunk({"tool_calls": [first]})
        rest = {"function": {"arguments": arguments[half:]}}
        yield self._chunk({"tool_calls": [{"index": index} | rest if "index" in whole else rest]})

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return frame({"object": "chat.completion.chunk", "choices": [choice], "usage": None})

    @property
    def _finish(self) -> str:
        return self.script.values.get("finish") or ("tool_calls" if self.script.tools else "stop")

    @property
    def _usage(self) -> dict[str, Any]:
        prompt = sum(len(text_of(message).split()) for message in self.request["messages"])
        completion = len(self.pieces) or 5 * len(self.script.tools)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }


async def play(answer: Answer, writer: asyncio.StreamWriter) -> bool:
    """Write the answer at its pace; False when the connection is to be closed."""
    await asyncio.sleep(answer.delay) if answer.delay != float("inf") else await forever()
    writer.write(head_of(answer))
    loop = asyncio.get_running_loop()
    began = loop.time()
    for sent, chunk in enumerate(batches(answer)):
        if answer.hang_after == sent:
            await forever()
        if answer.drop_after == sent:
            await writer.drain()
            return False
        if answer.rate:
            await asyncio.sleep(max(0.0, began + sent / answer.rate - loop.time()))
        writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    return True


def batches(answer: Answer) -> Iterator[bytes]:
    """Unpaced chunks go out many at a time, as they would arrive from a fast server."""
    exact = answer.rate or answer.drop_after is not None or answer.hang_after is not None
    size = 1 if exact else UNPACED_BATCH
    for start in range(0, len(answer.chunks), size):
        yield b"".join(answer.chunks[start : start + size])


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def head_of(answer: Answer) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} Scripted", "transfer-encoding: chunked"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def failing(directive: str, call: int) -> Answer | None:
    """`429 retry-after=1 times=2`, or None when this call is past the failing ones."""
    status, _, rest = directive.partition(" ")
    options: dict[str, str] = dict(OPTION.findall(rest))
    if call > int(options.pop("times", call)):
        return None
    error = {
        "message": options.pop("message", "Scripted failure."),
        "code": options.pop("code", None),
    }
    return error_answer(int(status), error, tuple(options.items()))


def error_answer(
    status: int, error: dict[str, Any], headers: tuple[tuple[str, str], ...] = ()
) -> Answer:
    body = orjson.dumps({"error": {"type": "scripted", "param": None, "code": None, **error}})
    return Answer(status, (("content-type", "application/json"), *headers), (body,))


def json_answer(content: object, *, delay: float = 0.0) -> Answer:
    body = orjson.dumps(content)
    return Answer(200, (("content-type", "application/json"),), (body,), delay=delay)


def describe(model: str) -> dict[str, Any]:
    return {"id": model, "object": "model", "created": 1_700_000_000, "owned_by": "scripted"}


def frame(content: object) -> bytes:
    return b"data: " + orjson.dumps(content) + b"\n\n"


def tool_call(index: int, directive: str) -> dict[str, Any]:
    name, _, arguments = directive.partition(" ")
    function = {"name": name, "arguments": arguments or "{}"}
    return {"index": index, "id": f"call_scripted{index}", "type": "function", "function": function}


def words(values: dict[str, str]) -> list[str]:
    text = values.get("text") or values.get("refuse") or ""
    return re.findall(r"\s*\S+\s*?", text)


def text_of(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content)


async def serve(port: int, tokens: int, rate: float) -> None:
    async with Upstream(port=port, tokens=tokens, rate=rate) as upstream:
        print(upstream.base_url, flush=True)  # noqa: T201 - the address is this program's answer
        await forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m threadloom.testing.upstream")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--rate", type=float, default=0.0)
    options = parser.parse_args()
    try:
        asyncio.run(serve(options.port, options.tokens, options.rate))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
