"""Refusals."""

from threadloom.errors import ErrorType
from threadloom.types.shared import Sent


class Error(Sent):
    """What was wrong; `param` is the place in the request."""

    message: str
    type: ErrorType
    param: str | None
    code: str | None


class Refusal(Sent):
    """The body of every answer that is no success."""

    error: Error
