"""JSON bodies: read whatever the content type says, and checked before they become types."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Scope

from threadloom.api.validation import read_json


class JsonRequest(Request):
    """Clients send JSON with any content type, or none."""

    async def json(self) -> Any:
        return read_json(await self.body())


class JsonRoute(APIRoute):
    """A route whose bodies are JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            return await handle(JsonRequest(as_json(request.scope), request.receive))

        return handle_json


def as_json(scope: Scope) -> Scope:
    headers = [pair for pair in scope["headers"] if pair[0] != b"content-type"]
    return {**scope, "headers": [*headers, (b"content-type", b"application/json")]}
