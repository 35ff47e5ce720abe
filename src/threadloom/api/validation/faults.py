"""What pydantic finds wrong with a request, and where the client sees it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]
PLACES = frozenset({"body", "query", "path", "header", "cookie"})
FREE_KEYS = frozenset({"metadata", "attributes"})
# A fault's place does not say what is the tag of a union and what is a key, so the fields with tags are named here.
TAGGED = frozenset({"tools", "chunking_strategy", "filters"})
NAMES_A_KEY = frozenset({"missing", "extra_forbidden"})
BRANCH = re.compile(
    r"constrained-\w+|str|int|float|bool|\[key\]|[a-z-]+\[.+\]|[A-Z]\w*", flags=re.DOTALL
)


@dataclass(frozen=True)
class Fault:
    """One of pydantic's faults; `path` is the place as the client knows it, without pydantic's own marks."""

    type: str
    path: Path
    branches: tuple[tuple[Path, str], ...]
    input: Any
    ctx: Mapping[str, Any]
    message: str


def read_fault(fault: Mapping[str, Any]) -> Fault:
    kind = str(fault.get("type", ""))
    loc = without_place(tuple(fault.get("loc", ())), kind)
    path: Path = ()
    branches: dict[Path, str] = {}
    for at, item in enumerate(loc):
        if isinstance(item, int) or is_key(loc, at, kind):
            path = (*path, item)
        elif BRANCH.fullmatch(item) and item != "[key]":
            branches[path] = branches.get(path, "") + item
    if kind == "string_too_long" and loc[-1:] == ("[key]",) and fault.get("input") in path[-1:]:
        kind = "key_too_long"
    return Fault(
        type=kind,
        path=path,
        branches=tuple(branches.items()),
        input=fault.get("input"),
        ctx=fault.get("ctx") or {},
        message=str(fault.get("msg", "")),
    )


def without_place(loc: Path, kind: str) -> Path:
    """FastAPI begins with "body" or "query", which may also be the names of fields."""
    if not loc or loc[0] not in PLACES:
        return loc
    if loc[0] == "body":
        return loc if len(loc) == 1 and kind == "extra_forbidden" else loc[1:]
    named = len(loc) > 1 and isinstance(loc[1], str) and not BRANCH.fullmatch(loc[1])
    return loc[1:] if named else loc


def is_key(loc: Path, at: int, kind: str) -> bool:
    """Whether this is a key of the body, and neither the name of a union's branch nor a tag."""
    last = at == len(loc) - 1
    if (last and kind in NAMES_A_KEY) or (at > 0 and loc[at - 1] in FREE_KEYS):
        return True
    if at > 0 and str(loc[at - 1]).startswith("tagged-union["):
        return False
    if not last and holds_tags(loc[:at]):
        return False
    return not BRANCH.fullmatch(str(loc[at]))


def holds_tags(loc: Path) -> bool:
    """Whether what follows here is a tag."""
    fields = loc[:-1] if loc and isinstance(loc[-1], int) else loc
    if not fields:
        return False
    return fields[-1] in TAGGED or str(fields[-1]).startswith("list[tagged-union[")
