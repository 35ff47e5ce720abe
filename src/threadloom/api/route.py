"""What all routes of the Assistants API have in common: the version header, and JSON whatever its content type.

Done here and not as dependencies, because FastAPI's dependencies cost more than a small answer does.
"""

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Scope

from threadloom.api.bodies import read_json
from threadloom.errors import InvalidRequest

BETA_MISSING = (
    "You must provide the 'OpenAI-Beta' header to access the Assistants API. "
    "Please try again by setting the header 'OpenAI-Beta: assistants=v2'."
)
BETA_V1 = (
    "The v1 Assistants API has been deprecated. Please try again by setting the header "
    "'OpenAI-Beta: assistants=v2'. See the migration guide for more information: "
    "https://platform.openai.com/docs/assistants/migration."
)


class JsonRequest(Request):
    """Clients send JSON with any content type, or none."""

    async def json(self) -> Any:
        return read_json(await self.body())


class JsonRoute(APIRoute):
    """A route that reads JSON, without a version header."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            return await handle(JsonRequest(as_json(request.scope), request.receive))

        return handle_json


class AssistantsRoute(APIRoute):
    """A route of the Assistants API."""

    in_beta: ClassVar = True

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_version_2(request: Request) -> Response:
            refuse_other_versions(request, self.in_beta)
            if request.method == "POST":
                request = JsonRequest(as_json(request.scope), request.receive)
            return await handle(request)

        return handle_version_2


class VectorStoresRoute(AssistantsRoute):
    """A route of the vector stores, which need no header since they left the beta."""

    in_beta: ClassVar = False


def refuse_other_versions(request: Request, in_beta: bool) -> None:
    """v1 clients send other objects. A missing header is refused only on demand: many clients never sent it."""
    given = ",".join(request.headers.getlist("openai-beta"))
    if "assistants=v1" in given:
        raise InvalidRequest(BETA_V1, code="invalid_beta")
    strict = request.app.state.context.settings.compat.strict_beta_header
    if strict and in_beta and "assistants=v2" not in given:
        raise InvalidRequest(BETA_MISSING, code="invalid_beta")


def as_json(scope: Scope) -> Scope:
    headers = [pair for pair in scope["headers"] if pair[0] != b"content-type"]
    return {**scope, "headers": [*headers, (b"content-type", b"application/json")]}
