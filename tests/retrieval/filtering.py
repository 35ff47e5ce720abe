"""Random attributes and filters, and what a filter means."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from threadloom.types.vector_stores import AttributeValue

Sent = dict[str, Any]
VALUES: list[AttributeValue] = ["1", "a", "b", "", 1, 0, 1.5, -2, True, False]
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def compare(kind: str, key: str, value: object) -> Sent:
    return {"type": kind, "key": key, "value": value}


def join(kind: str, filters: Sequence[Sent]) -> Sent:
    return {"type": kind, "filters": list(filters)}


scalars = st.sampled_from(VALUES)
ordered = st.sampled_from([value for value in VALUES if not isinstance(value, bool)])
keys = st.sampled_from(["a", "b", 'c"d', "ключ"])
comparisons = st.one_of(
    st.builds(compare, st.sampled_from(["eq", "ne"]), keys, scalars),
    st.builds(compare, st.sampled_from(["gt", "gte", "lt", "lte"]), keys, ordered),
    st.builds(compare, st.sampled_from(["in", "nin"]), keys, st.lists(ordered, max_size=4)),
)
filters: st.SearchStrategy[Sent] = st.recursive(
    comparisons,
    lambda inner: st.builds(join, st.sampled_from(["and", "or"]), st.lists(inner, max_size=3)),
    max_leaves=8,
)
attribute_sets: st.SearchStrategy[dict[str, AttributeValue]] = st.dictionaries(
    keys, scalars, max_size=4
)


def obviously(sent: Sent, attributes: dict[str, AttributeValue]) -> bool:
    """The meaning of filters once more, as plainly as it can be said."""
    match sent["type"]:
        case "and":
            return all(obviously(each, attributes) for each in sent["filters"])
        case "or":
            return any(obviously(each, attributes) for each in sent["filters"])
        case "eq" | "ne" as kind:
            return has_equal(attributes, sent["key"], [sent["value"]]) == (kind == "eq")
        case "in" | "nin" as kind:
            return has_equal(attributes, sent["key"], sent["value"]) == (kind == "in")
        case kind:
            value = attributes.get(sent["key"])
            comparable = value is not None and kind_of(value) == kind_of(sent["value"])
            return comparable and COMPARE[kind](value, sent["value"])


def has_equal(attributes: dict[str, AttributeValue], key: str, values: list[object]) -> bool:
    return key in attributes and any(
        kind_of(attributes[key]) == kind_of(value) and attributes[key] == value for value in values
    )


def kind_of(value: object) -> str:
    return "number" if type(value) in {int, float} else type(value).__name__
