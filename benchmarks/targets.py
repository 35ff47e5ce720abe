"""The same answer, asked of the upstream itself and through the server."""

from dataclasses import dataclass
from typing import Any

from benchmarks.load import Connection, Request, connected, request
from benchmarks.processes import Serving

DIRECT = b'"content":"tok '
SERVED = b"event: thread.message.delta\n"


@dataclass(frozen=True)
class Target:
    """Where answers are streamed from."""

    serving: Serving
    assistant_id: str | None = None

    def streaming(self, tokens: int, rate: float = 0) -> Request:
        """Ask for a stream of `tokens`, `rate` a second; 0 is as fast as it goes."""
        message = {"role": "user", "content": f"[[tokens:{tokens}]] [[rate:{rate:g}]]"}
        if self.assistant_id is None:
            body: dict[str, Any] = {
                "model": "scripted",
                "messages": [message],
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            return request("POST", "/v1/chat/completions", body, DIRECT)
        body = {
            "assistant_id": self.assistant_id,
            "stream": True,
            "thread": {"messages": [message]},
        }
        return request("POST", "/v1/threads/runs", body, SERVED)


@dataclass(frozen=True)
class Pair:
    """Both, and what they are compared by."""

    direct: Target
    served: Target


async def make_assistant(connection: Connection) -> str:
    body = {"model": "scripted", "instructions": "Answer."}
    return (await connection.ask(request("POST", "/v1/assistants", body)))["id"]


async def pair(upstream: Serving, server: Serving) -> Pair:
    async with connected(server.port) as connection:
        return Pair(Target(upstream), Target(server, await make_assistant(connection)))
