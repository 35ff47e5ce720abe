"""Attribute filters: what they mean, and how wrong ones are refused."""

from collections.abc import AsyncGenerator

import numpy as np
import pytest
from hypothesis import given
from pydantic import BaseModel, TypeAdapter, ValidationError

from tests.retrieval.filtering import (
    VALUES,
    Sent,
    attribute_sets,
    compare,
    filters,
    obviously,
)
from tests.retrieval.index.rows import FileData, filled_store
from tests.runs.workers import opened
from threadloom.api.validation import explain
from threadloom.db.database import Database
from threadloom.retrieval.filters import matching_files, predicate
from threadloom.types.filters import Filter
from threadloom.types.vector_stores import AttributeValue

FILTER: TypeAdapter[Filter] = TypeAdapter(Filter)


class Asked(BaseModel):
    """A request with filters."""

    filters: Filter | None = None


@pytest.fixture
async def database(database_url: str) -> AsyncGenerator[Database]:
    async with opened(database_url) as one:
        yield one


def matches(sent: Sent, attributes: dict[str, AttributeValue]) -> bool:
    return predicate(FILTER.validate_python(sent))(attributes)


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        ("eq", 1, ["one", "one point nought"]),
        ("eq", True, ["true"]),
        ("eq", "1", ["text"]),
        ("ne", 1, ["true", "text", "nothing"]),
        ("gt", 0, ["one", "one point nought"]),
        ("gte", "0", ["text"]),
        ("lt", 1, []),
        ("lte", 1.0, ["one", "one point nought"]),
        ("in", [1, "1"], ["one", "one point nought", "text"]),
        ("in", [], []),
        ("nin", [1], ["true", "text", "nothing"]),
        ("nin", [], ["one", "one point nought", "true", "text", "nothing"]),
    ],
)
def test_values_are_compared_within_their_kind_and_what_is_missing_differs_from_all(
    kind: str, value: object, found: list[str]
) -> None:
    files: dict[str, dict[str, AttributeValue]] = {
        "one": {"a": 1},
        "one point nought": {"a": 1.0},
        "true": {"a": True},
        "text": {"a": "1"},
        "nothing": {"b": 1},
    }
    assert [name for name, given in files.items() if matches(compare(kind, "a", value), given)] == (
        found
    )


def test_and_without_filters_lets_all_through_and_or_nothing() -> None:
    assert matches({"type": "and", "filters": []}, {})
    assert not matches({"type": "or", "filters": []}, {})


@given(sent=filters, attributes=attribute_sets)
def test_nested_filters_mean_what_they_say(
    sent: Sent, attributes: dict[str, AttributeValue]
) -> None:
    assert matches(sent, attributes) == obviously(sent, attributes)


async def test_the_files_of_a_store_are_chosen_by_their_stored_attributes(
    database: Database,
) -> None:
    store = await filled_store(database)
    others = await filled_store(database, FileData([], attributes={"a": 1}))
    seqs = await store.add(*(FileData([], attributes={"a": value}) for value in VALUES))
    wanted = FILTER.validate_python(
        {"type": "or", "filters": [compare("eq", "a", True), compare("gt", "a", 1)]}
    )
    found = await database.read(matching_files, store.id, wanted)
    assert found is not None
    assert found.dtype == np.int64
    assert found.tolist() == [
        seq for seq, value in zip(seqs, VALUES, strict=True) if value is True or value == 1.5
    ]
    assert await database.read(matching_files, others.id, None) is None


LARGE = 2**53 + 1
"""The first whole number that is no float."""


@pytest.mark.parametrize(
    "sent",
    [
        compare("eq", "a", LARGE),
        compare("in", "a", [LARGE]),
        compare("gt", "a", LARGE - 1),
        compare("lt", "a", LARGE + 1),
        compare("ne", "a", LARGE - 1),
        compare("nin", "a", [LARGE - 1]),
    ],
)
async def test_large_whole_numbers_are_compared_exactly(database: Database, sent: Sent) -> None:
    store = await filled_store(database)
    seqs = await store.add(FileData([], attributes={"a": LARGE}))
    found = await database.read(matching_files, store.id, FILTER.validate_python(sent))
    assert found is not None
    assert found.tolist() == seqs


def nested(levels: int) -> Sent:
    sent = compare("eq", "a", 1)
    for _ in range(levels - 1):
        sent = {"type": "and", "filters": [sent]}
    return sent


ONE = compare("eq", "a", 1)
TYPES = "'eq', 'ne', 'gt', 'gte', 'lt', 'lte', 'in', 'nin', 'and', and 'or'"


@pytest.mark.parametrize(
    ("sent", "param", "message"),
    [
        ({}, "filters.type", "Missing required parameter: 'filters.type'."),
        ({"type": "eq"}, "filters.key", "Missing required parameter: 'filters.key'."),
        (
            compare("like", "a", 1),
            "filters.type",
            f"Invalid value: 'like'. Supported values are: {TYPES}.",
        ),
        (
            compare("eq", "a", [1]),
            "filters.value",
            "Invalid type for 'filters.value': expected one of a string, decimal, or boolean, but got an array instead.",
        ),
        (
            compare("in", "a", "x"),
            "filters.value",
            "Invalid type for 'filters.value': expected an array, but got a string instead.",
        ),
        (
            compare("gt", "a", True),
            "filters.value",
            "Invalid type for 'filters.value': expected one of a string or decimal, but got a boolean instead.",
        ),
        (
            {"type": "and", "filters": [{"type": "or", "filters": [compare("nin", "a", [True])]}]},
            "filters.filters[0].filters[0].value[0]",
            "Invalid type for 'filters.filters[0].filters[0].value[0]': expected one of a string or decimal, but got a boolean instead.",
        ),
        (
            compare("in", "a", [1] * 1001),
            "filters.value",
            "Invalid 'filters.value': array too long. Expected an array with maximum length 1000, but got an array with length 1001 instead.",
        ),
        (nested(17), "filters", "Filters can be nested 16 levels deep at most."),
        (nested(900), "filters", "Filters can be nested 16 levels deep at most."),
        (
            {"type": "or", "filters": [{"type": "and", "filters": [ONE] * 128}] * 2},
            "filters",
            "There can be 256 filters at most, in all levels.",
        ),
    ],
)
def test_a_wrong_filter_is_refused_in_the_hosted_words(
    sent: Sent, param: str, message: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        Asked.model_validate({"filters": sent})
    told = explain(refused.value.errors())
    assert (told.param, told.message) == (param, message)


def test_filters_as_large_as_allowed_are_taken() -> None:
    Asked.model_validate({"filters": nested(16)})
    Asked.model_validate({"filters": {"type": "or", "filters": [ONE] * 255}})
