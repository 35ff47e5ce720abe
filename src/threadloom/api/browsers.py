"""Programs in browsers: pages of any origin may call the API, as they could call OpenAI's.

That lets nobody in: a key is in a header that only the program itself can send, never in a cookie. What needs no key is not for them.
"""

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

METHODS = "GET, POST, DELETE"
MAX_AGE = "600"
"""Seconds for which a browser remembers that it may."""
READABLE: Mapping[str, str] = {
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "*",
}
NOTHING: Mapping[str, str] = {}


def is_question(scope: Scope) -> bool:
    """Whether a browser asks if a page may send a request; it asks without the key."""
    if scope["method"] != "OPTIONS" or not scope["path"].startswith("/v1/"):
        return False
    headers = Headers(scope=scope)
    return "origin" in headers and "access-control-request-method" in headers


def consent(scope: Scope) -> Response:
    """The answer to such a question, whatever headers the program wants to send."""
    wanted = Headers(scope=scope).get("access-control-request-headers", "")
    allowed = {
        "access-control-allow-methods": METHODS,
        "access-control-allow-headers": wanted,
        "access-control-max-age": MAX_AGE,
        "vary": "Access-Control-Request-Headers",
    }
    return Response(status_code=204, headers=allowed)


def headers_for(scope: Scope) -> Mapping[str, str]:
    """What an answer needs so that a page may read it."""
    is_page = scope["path"].startswith("/v1/") and "origin" in Headers(scope=scope)
    return READABLE if is_page else NOTHING
