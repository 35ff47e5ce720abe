"""What stands between programs and the server: whether it passes events on as they come."""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus

import httpx2

from threadloom.commands.doctor.findings import Finding, green, red

TIMEOUT = 10.0
SPREAD = 0.4
"""The server sends for a second; what comes within less of it was held back."""
BUFFERS = "Let the proxy pass answers on unbuffered: `proxy_buffering off` in nginx, `flush_interval -1` in Caddy; docs/proxies.md has more."
REACH = "Check the address (it ends in /v1), its name and certificate, and that the proxy leads to `threadloom serve`."
KEY = "Set OPENAI_API_KEY to a key of `threadloom keys create`, and let the proxy pass the Authorization header on."


async def check_proxy(url: str, key: str | None) -> Sequence[Finding]:
    """Time the pieces of a slow answer on their way through the public address."""
    if key is None:
        return [red("proxy", "there is no key to ask with", KEY)]
    address = url.rstrip("/") + "/threadloom/stream"
    try:
        status, times = await time_pieces(address, key)
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        return [red("proxy", f"{url} does not answer: {reason}", REACH)]
    return [judged(url, status, times)]


async def time_pieces(address: str, key: str) -> tuple[int, Sequence[float]]:
    """The status of the answer, and when its pieces arrived. Raises HTTPError."""
    loop = asyncio.get_running_loop()
    headers = {"authorization": f"Bearer {key}"}
    async with (
        asyncio.timeout(TIMEOUT),
        httpx2.AsyncClient(headers=headers, timeout=TIMEOUT) as client,
        client.stream("GET", address) as response,
    ):
        times = [loop.time() async for _ in response.aiter_raw()]
        return response.status_code, times


def judged(url: str, status: int, times: Sequence[float]) -> Finding:
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return red("proxy", f"{url} refuses the key (status {status})", KEY)
    if status != HTTPStatus.OK or not times:
        return red("proxy", f"{url} answers with status {status}", REACH)
    spread = times[-1] - times[0]
    if spread < SPREAD:
        says = f"{url} holds events back: those of a second came within {spread:.2f} s"
        return red("proxy", says, BUFFERS)
    return green("proxy", f"{url} passes events on as they come")
