"""Errors as OpenAI drew them, whatever raised them."""

from math import ceil
from typing import cast

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from threadloom.api.validation import explain
from threadloom.db.columns import dumps
from threadloom.db.failures import refusal
from threadloom.errors import ApiError, InvalidRequest, MethodNotAllowed, NotFound, Unavailable
from threadloom.types.shared import JsonObject

NOT_FOUND, METHOD_NOT_ALLOWED = 404, 405
LONGEST_WAIT = 60.0
"""Seconds that SDKs wait at most because of a header."""
log = structlog.get_logger()


def envelope(error: ApiError) -> JsonObject:
    """The body of every refusal."""
    return {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
        }
    }


def error_response(error: ApiError) -> Response:
    """A refusal as it is sent; `retry-after` stands where waiting helps."""
    headers = None if error.retry_after is None else waiting(error.retry_after)
    return Response(dumps(envelope(error)), error.status, headers, media_type="application/json")


def waiting(seconds: float) -> dict[str, str]:
    """What makes clients wait, or give up: they would not wait this long, but ask again at once."""
    headers = {"retry-after": str(ceil(seconds)), "retry-after-ms": str(ceil(seconds * 1000))}
    return headers | {"x-should-retry": "false"} if seconds > LONGEST_WAIT else headers


async def on_api_error(_: Request, error: Exception) -> Response:
    return error_response(cast(ApiError, error))  # registered for ApiError only


def outage(error: Exception) -> Unavailable | None:
    """What clients are told when it is the database that is away or full, and nothing else is wrong."""
    refused = refusal(error) if isinstance(error, SQLAlchemyError) else None
    if refused is not None:
        log.warning("database unavailable", error=type(error.__cause__ or error).__name__)
    return refused


async def on_database_error(_: Request, error: Exception) -> Response:
    if (refused := outage(error)) is None:
        raise error
    return error_response(refused)


async def on_invalid(_: Request, error: Exception) -> Response:
    faults = cast(RequestValidationError, error).errors()  # registered for that class only
    return error_response(explain(faults))


async def on_http_error(request: Request, error: Exception) -> Response:
    """What the framework refuses by itself, and our own refusals of a body, which it wraps."""
    if isinstance(error.__cause__, ApiError):
        return error_response(error.__cause__)
    status = cast(HTTPException, error).status_code  # registered for that class only
    path = request.scope.get("asked_path", request.url.path)
    if status == NOT_FOUND:
        return error_response(NotFound(f"Invalid URL ({request.method} {path})"))
    if status == METHOD_NOT_ALLOWED:
        return error_response(MethodNotAllowed(f"Not allowed to {request.method} on {path}."))
    return error_response(InvalidRequest())


def install(app: FastAPI) -> None:
    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(SQLAlchemyError, on_database_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http_error)
