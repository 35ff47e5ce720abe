"""Which files of a store a filter lets through. It is asked before anything is ranked, in Python: one meaning on both databases."""

import operator
from collections.abc import Callable, Mapping
from typing import assert_never

import numpy as np
import orjson
from sqlalchemy import Text, bindparam, cast, func, select

from threadloom.db.rows import VectorStoreFileRow
from threadloom.db.tx import Tx
from threadloom.retrieval.index import FileSeqs
from threadloom.types.filters import (
    CompoundFilter,
    EqualityFilter,
    Filter,
    MembershipFilter,
    OrderFilter,
)
from threadloom.types.vector_stores import AttributeValue

Given = Mapping[str, AttributeValue]
Predicate = Callable[[Given], bool]
Comparison = Callable[[AttributeValue, AttributeValue], bool]

# One row, because thousands would cost more than all that is done with them.
ATTRIBUTES = select(
    func.aggregate_strings(cast(VectorStoreFileRow.seq, Text), ","),
    func.aggregate_strings(cast(VectorStoreFileRow.attributes, Text), ","),
).where(
    VectorStoreFileRow.vector_store_id == bindparam("store_id"),
    VectorStoreFileRow.status == "completed",
)
ORDERS: Mapping[str, Comparison] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
KINDS: Mapping[type, str] = {str: "string", bool: "boolean", int: "number", float: "number"}
"""Values of two kinds are neither equal nor in any order: `1` is not `true`, and `"1"` is neither."""


def matching_files(tx: Tx, store_id: str, wanted: Filter | None) -> FileSeqs | None:
    """The completed files that a search may find; None stands for all."""
    if wanted is None:
        return None
    seqs, attributes = tx.session.execute(ATTRIBUTES, {"store_id": store_id}).one()
    given: list[Given] = orjson.loads(f"[{attributes or ''}]")
    found = np.fromiter(map(predicate(wanted), given), np.bool_, len(given))
    return np.sort(np.fromstring(seqs or "", np.int64, sep=",")[found])


def predicate(wanted: Filter) -> Predicate:
    match wanted:
        case CompoundFilter():
            return joined(wanted)
        case EqualityFilter(type="eq") | MembershipFilter(type="in"):
            return among(wanted)
        case EqualityFilter() | MembershipFilter():
            is_among = among(wanted)
            return lambda given: not is_among(given)
        case OrderFilter():
            return in_order(wanted)
        case _:
            assert_never(wanted)


def joined(wanted: CompoundFilter) -> Predicate:
    """Without filters, `and` lets everything through and `or` nothing."""
    predicates = [predicate(each) for each in wanted.filters]
    if wanted.type == "and":
        return lambda given: all(matches(given) for matches in predicates)
    return lambda given: any(matches(given) for matches in predicates)


def among(wanted: EqualityFilter | MembershipFilter) -> Predicate:
    values = wanted.value if isinstance(wanted.value, list) else [wanted.value]
    key, accepted = wanted.key, {(KINDS[type(value)], value) for value in values}

    def matches(given: Given) -> bool:
        value = given.get(key)
        return value is not None and (KINDS[type(value)], value) in accepted

    return matches


def in_order(wanted: OrderFilter) -> Predicate:
    key, bound, compare = wanted.key, wanted.value, ORDERS[wanted.type]
    kind = KINDS[type(bound)]

    def matches(given: Given) -> bool:
        value = given.get(key)
        return value is not None and KINDS[type(value)] == kind and compare(value, bound)

    return matches
