"""JSON bodies, checked before they become types."""

from collections.abc import Iterator
from typing import Any, cast

import orjson

from threadloom.api.validation import NOT_JSON, Path, shown
from threadloom.errors import InvalidRequest

MAX_DEPTH = 100


def read_json(body: bytes) -> Any:
    """Strict JSON that a database can store. Raises InvalidRequest."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise too_deep() if "depth" in error.msg else InvalidRequest(NOT_JSON) from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and deeper_than(MAX_DEPTH, value):
        raise too_deep()
    if b"\\u0000" in body:
        refuse_nul(value)
    return value


def too_deep() -> InvalidRequest:
    return InvalidRequest(
        f"The JSON body of your request is nested too deeply. Expected at most {MAX_DEPTH} levels.",
        code="invalid_value",
    )


def deeper_than(limit: int, value: object) -> bool:
    """Level by level, because recursion is what this protects from."""
    level = [value]
    for _ in range(limit):
        level = [inner for outer in level for _, inner in inside(outer)]
        if not level:
            return False
    return any(isinstance(inner, dict | list) for inner in level)


def inside(value: object) -> Iterator[tuple[str | int, object]]:
    if isinstance(value, dict):
        yield from cast("dict[str, object]", value).items()
    elif isinstance(value, list):
        yield from enumerate(cast("list[object]", value))


def refuse_nul(value: object, path: Path = ()) -> None:
    """PostgreSQL cannot store NUL in text; better refused here than lost there. Raises InvalidRequest."""
    if isinstance(value, str) and "\0" in value:
        param = shown(path).replace("\0", "\\u0000")
        raise InvalidRequest(
            f"Invalid '{param}': string contains a NUL character, which databases cannot store.",
            param=param or None,
            code="invalid_value",
        )
    for key, inner in inside(value):
        refuse_nul(key, (*path, key))
        refuse_nul(inner, (*path, key))
