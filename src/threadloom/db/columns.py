"""Column types: JSON that is typed once, integers that count up on both databases."""

from collections.abc import Callable
from typing import Any

import orjson
from pydantic import TypeAdapter
from sqlalchemy import JSON, BigInteger, Dialect, Integer, TypeDecorator

Serial = BigInteger().with_variant(Integer, "sqlite")


class Json(TypeDecorator[Any]):
    """A JSON column that holds values of one type: `Json(list[Tool])`. None is SQL's NULL."""

    impl = JSON
    cache_ok = True

    def __init__(self, kind: Any) -> None:
        super().__init__(none_as_null=True)
        self.kind = repr(kind)  # what SQLAlchemy compares its cached statements by
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def to_json(self, value: Any) -> Any:
        return None if value is None else self._adapter.dump_python(value, mode="json")

    def from_json(self, value: Any) -> Any:
        return None if value is None else self._adapter.validate_python(value)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        del dialect
        return self.to_json(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        del dialect
        return self.from_json(value)


def dumps(value: Any) -> str:
    """JSON text as both databases store it."""
    return orjson.dumps(value).decode()


loads: Callable[[str | bytes], Any] = orjson.loads
