"""A slow stream that costs nothing: `threadloom doctor --url` times it through whatever stands before the server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Response
from sse_starlette import EventSourceResponse

PIECES = 5
PAUSE = 0.25
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Comments."}
}

router = APIRouter(prefix="/v1", tags=["Threadloom's own"])


@router.get("/threadloom/stream", response_class=Response, responses=STREAM)
async def stream_check() -> Response:
    """A second of comments, a quarter of a second apart: proxies that hold events back are found by it. Not part of OpenAI's API."""
    return EventSourceResponse(comments(), sep="\n")


async def comments() -> AsyncIterator[bytes]:
    for number in range(PIECES):
        if number:
            await asyncio.sleep(PAUSE)
        yield f": {number}\n\n".encode()
