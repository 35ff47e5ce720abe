"""What can go wrong, as OpenAI's clients see it.

ApiError                      drawn as {"error": {"message", "type", "param", "code"}}
├── InvalidRequest            400
├── Unauthorized              401
├── NotFound                  404
├── MethodNotAllowed          405
├── BodyTooSlow               408
├── BodyTooLarge              413
├── HeadTooLarge              431
├── RateLimited               429, with `retry-after`
├── BlobMissing               500
└── Unavailable               503, with `retry-after`
    ├── Overloaded
    ├── StorageUnavailable
    ├── DatabaseUnavailable
    └── NoRoom                507
StartError                    the process cannot start; the sentence is for the operator
"""

from typing import Literal

ErrorType = Literal[
    "invalid_request_error", "server_error", "requests", "tokens", "insufficient_quota"
]


class ApiError(Exception):
    """The server had an error processing your request. Sorry about that!"""

    status: int = 500
    type: ErrorType = "server_error"
    retry_after: float | None = None
    """Seconds after which the same request may succeed; sent as `retry-after`."""

    def __init__(
        self, message: str | None = None, *, param: str | None = None, code: str | None = None
    ) -> None:
        self.message = message or (self.__doc__ or "")
        self.param = param
        self.code = code
        super().__init__(self.message)


class InvalidRequest(ApiError):
    """The request is not valid."""

    status = 400
    type: ErrorType = "invalid_request_error"


class Unauthorized(InvalidRequest):
    """You didn't provide an API key."""

    status = 401


class NotFound(InvalidRequest):
    """No such object."""

    status = 404


class MethodNotAllowed(InvalidRequest):
    """Not allowed to use this method here."""

    status = 405


class BodyTooLarge(InvalidRequest):
    """The request body is too large."""

    status = 413

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request body is too large. The limit is {limit} bytes.")


class BodyTooSlow(InvalidRequest):
    """The rest of your request did not come in time."""

    status = 408


class HeadTooLarge(InvalidRequest):
    """The head of your request is too large."""

    status = 431


class RateLimited(ApiError):
    """A limit of a key or project is reached."""

    status = 429

    def __init__(
        self,
        message: str,
        *,
        type: ErrorType,  # noqa: A002 - the API's name
        code: str = "rate_limit_exceeded",
        retry_after: float,
    ) -> None:
        super().__init__(message, code=code)
        self.type = type
        self.retry_after = retry_after


class BlobMissing(ApiError):
    """The content of the file is not in the file storage."""


class Unavailable(ApiError):
    """The server is shutting down or overloaded. Please try again in a moment."""

    status = 503
    retry_after = 1


class Overloaded(Unavailable):
    """The server is currently overloaded with other requests. Please try again in a moment."""

    def __init__(self, message: str | None = None, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after: float = retry_after


class StorageUnavailable(Unavailable):
    """The file storage does not answer. Please try again in a moment."""


class DatabaseUnavailable(Unavailable):
    """The database does not answer. Please try again in a moment."""


class NoRoom(Unavailable):
    """The server has no room left to store anything. What is stored can still be read."""

    status = 507
    retry_after = 30


class StartError(Exception):
    """The server cannot start."""
