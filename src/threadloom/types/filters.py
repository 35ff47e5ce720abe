"""Filters over the attributes of files in a vector store."""

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Literal, cast

from pydantic import BeforeValidator, Field, ValidatorFunctionWrapHandler, WrapValidator

from threadloom.types.shared import JsonObject, Received, fault

MAX_DEPTH = 16
MAX_FILTERS = 256
MAX_VALUES = 1000


def exact(sent: object, check: ValidatorFunctionWrapHandler) -> float:
    """A number as it was sent: as a float, a whole number above 2^53 would be another one."""
    number: float = check(sent)
    return sent if isinstance(sent, int) else number


Number = Annotated[float, WrapValidator(exact)]


class EqualityFilter(Received):
    """Compares an attribute with a value; what has no such attribute is not equal to it."""

    type: Literal["eq", "ne"]
    key: str
    value: str | Number | bool


class OrderFilter(Received):
    """Numbers are compared with numbers, strings with strings by their characters' numbers; nothing else matches."""

    type: Literal["gt", "gte", "lt", "lte"]
    key: str
    value: str | Number


class MembershipFilter(Received):
    """Looks for an attribute among values; what has no such attribute is not among them."""

    type: Literal["in", "nin"]
    key: str
    value: Annotated[list[str | Number], Field(max_length=MAX_VALUES)]


class CompoundFilter(Received):
    """Joins filters."""

    type: Literal["and", "or"]
    filters: list["Filter"]


def check_size(sent: object) -> object:
    """Refuse what would take long to understand or to ask, before anybody tries."""
    depths = list(islice(depths_in(sent, 1), MAX_FILTERS + 1))
    if max(depths) > MAX_DEPTH:
        raise fault("invalid_value", f"Filters can be nested {MAX_DEPTH} levels deep at most.")
    if len(depths) > MAX_FILTERS:
        raise fault("invalid_value", f"There can be {MAX_FILTERS} filters at most, in all levels.")
    return sent


def depths_in(sent: object, depth: int) -> Iterator[int]:
    """How deep each filter of a request stands; below the limit nobody looks."""
    yield depth
    if isinstance(sent, dict) and depth <= MAX_DEPTH:
        inner = cast("JsonObject", sent).get("filters")
        for each in cast("list[object]", inner) if isinstance(inner, list) else ():
            yield from depths_in(each, depth + 1)


ComparisonFilter = EqualityFilter | OrderFilter | MembershipFilter
Filter = Annotated[
    Annotated[ComparisonFilter | CompoundFilter, Field(discriminator="type")],
    BeforeValidator(check_size),
]
