"""Faults in a request, told in the words of the hosted service; programs match on these texts."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from pydantic_core import core_schema

from threadloom.errors import InvalidRequest

Path = tuple[str | int, ...]

NOT_JSON = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
    "correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. If you have trouble "
    "figuring out how to fix this, please contact us through our help center at help.openai.com.)"
)
EXPECTED = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_parsing_size": "an integer",
    "int_from_float": "an integer",
    "float_type": "a decimal",
    "float_parsing": "a decimal",
    "bool_type": "a boolean",
    "bool_parsing": "a boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
GOT: dict[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal number",
    str: "a string",
    list: "an array",
    dict: "an object",
}
PLACES = frozenset({"body", "query", "path", "header", "cookie"})
FREE_KEYS = frozenset({"metadata", "attributes"})
# A fault's place does not say what is the tag of a union and what is a key, so the fields with tags are named here.
TAGGED = frozenset({"tools", "chunking_strategy", "filters"})
LISTS_OF_OBJECTS = frozenset(
    {
        "additional_messages",
        "attachments",
        "content",
        "files",
        "messages",
        "tool_outputs",
        "tools",
        "vector_stores",
    }
)
NAMES_A_KEY = frozenset({"missing", "extra_forbidden"})
BRANCH = re.compile(
    r"constrained-\w+|str|int|float|bool|\[key\]|[a-z-]+\[.+\]|[A-Z]\w*", flags=re.DOTALL
)
QUOTED = re.compile(r"'([^']*)'")
BUILT_IN: frozenset[str] = frozenset(get_args(core_schema.ErrorType))


@dataclass(frozen=True)
class Fault:
    """One of pydantic's faults; `path` is the place as the client knows it, without pydantic's own marks."""

    type: str
    path: Path
    branches: tuple[tuple[Path, str], ...]
    input: Any
    ctx: Mapping[str, Any]
    message: str


Branches = dict[Path, dict[str, list[Fault]]]


def explain(faults: Sequence[Mapping[str, Any]]) -> InvalidRequest:
    """The first fault of a request in the hosted service's order and words."""
    read = [read_fault(fault) for fault in faults]
    if not read:
        return InvalidRequest()
    branches = tried_branches(read)
    fault = min(fitting(read, branches), key=rank)
    expected = expected_at(fault, branches)
    return wrong_type(fault, expected) if expected else tell(fault)


def rank(fault: Fault) -> int:
    """Missing keys come first, then unknown ones; `min` keeps the order of fields among equals."""
    if fault.type in {"missing", "union_tag_not_found", "missing_required_parameter"}:
        return 0
    return 1 if fault.type == "extra_forbidden" else 2


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


def tried_branches(faults: list[Fault]) -> Branches:
    """The faults of each branch of each union."""
    tried: Branches = {}
    for fault in faults:
        for place, branch in fault.branches:
            tried.setdefault(place, {}).setdefault(branch, []).append(fault)
    return tried


def fitting(faults: list[Fault], tried: Branches) -> list[Fault]:
    """Without the faults of branches that something else was meant for: pydantic reports all of them."""
    best = {place: best_branch(place, branches) for place, branches in tried.items()}
    return [
        fault for fault in faults if all(best[place] == branch for place, branch in fault.branches)
    ] or faults


def best_branch(place: Path, branches: Mapping[str, list[Fault]]) -> str:
    """The branch for this kind of value, else the one with the fewest faults, else the first."""
    return min(
        branches,
        key=lambda name: (
            any(other_kind(fault, place) for fault in branches[name]),
            len(branches[name]),
        ),
    )


def other_kind(fault: Fault, place: Path) -> bool:
    return fault.path == place and expected_kind(fault) is not None


def expected_at(fault: Fault, tried: Branches) -> str | None:
    """What would have been right here, when the fault is a value of the wrong kind."""
    branches = tried.get(fault.path, {}).values()
    kinds = [kind for faults in branches for each in faults if (kind := expected_kind(each))]
    if expected_kind(fault) is None or len(kinds) < 2:  # noqa: PLR2004
        return expected_kind(fault)
    first, *others = dict.fromkeys(kinds)
    return "one of " + listed([first, *(without_article(kind) for kind in others)], "or")


def expected_kind(fault: Fault) -> str | None:
    if fault.type == "literal_error" and not isinstance(fault.input, str):
        return one_of(values_in(fault.ctx.get("expected")))
    if fault.type == "list_type" and fault.path[-1:] and fault.path[-1] in LISTS_OF_OBJECTS:
        return "an array of objects"
    if fault.type == "dict_type" and fault.path[-1:] == ("metadata",):
        return "a metadata object"
    return EXPECTED.get(fault.type)


def one_of(values: list[str]) -> str:
    return listed(values, "or") if len(values) == 1 else "one of " + listed(values, "or")


def without_article(kind: str) -> str:
    return kind.removeprefix("a ").removeprefix("an ")


def values_in(expected: object) -> list[str]:
    """The quoted values in pydantic's list of them."""
    return [f"'{value}'" for value in QUOTED.findall(str(expected))] or [str(expected)]


def listed(items: list[str], word: str) -> str:
    """With a comma before the word from three items on."""
    *start, last = items
    if not start:
        return last
    return ", ".join(start) + (f", {word} " if len(start) > 1 else f" {word} ") + last


def tell(fault: Fault) -> InvalidRequest:
    if fault.type in TELLERS:
        return TELLERS[fault.type](fault)
    if fault.type in BUILT_IN:
        return refusal(fault, "invalid_value", f"Invalid value for {quoted(fault)}.")
    return own_fault(fault)


def refusal(fault: Fault, code: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, param=shown(fault.path) or None, code=code)


def shown(path: Path) -> str:
    text = ""
    for item in path:
        if isinstance(item, int):
            text += f"[{item}]"
        else:
            text += ("." if text else "") + item.removesuffix("[]")
    return text


def quoted(fault: Fault) -> str:
    return f"'{shown(fault.path)}'" if fault.path else "the request body"


def own_fault(fault: Fault) -> InvalidRequest:
    """A fault that a type raised itself; it may speak of a key below the value it was raised for."""
    param = shown(fault.path)
    named = QUOTED.search(fault.message)
    if named and (not param or named[1].startswith(f"{param}.")):
        param = named[1]
    return InvalidRequest(fault.message, param=param or None, code=fault.type)


def wrong_prefix(fault: Fault) -> InvalidRequest:
    return refusal(
        fault,
        "invalid_value",
        f"Invalid {quoted(fault)}: '{fault.input}'. Expected an ID that begins with '{fault.ctx.get('prefix')}'.",
    )


def exclusive(fault: Fault) -> InvalidRequest:
    """Keys of one object of which only one may be given."""
    names = [f"'{shown((*fault.path, name))}'" for name in fault.ctx.get("names", ())]
    message = (
        f"Mutually exclusive parameters: {names[0]}. Ensure you are only providing one of: "
        f"{listed(names, 'or')}."
    )
    return InvalidRequest(message, param=names[0].strip("'"), code="mutually_exclusive_parameters")


def not_json(_: Fault) -> InvalidRequest:
    return InvalidRequest(NOT_JSON)


def missing(fault: Fault) -> InvalidRequest:
    return refusal(
        fault, "missing_required_parameter", f"Missing required parameter: {quoted(fault)}."
    )


def unknown(fault: Fault) -> InvalidRequest:
    return refusal(fault, "unknown_parameter", f"Unknown parameter: {quoted(fault)}.")


def wrong_type(fault: Fault, expected: str) -> InvalidRequest:
    sent: object = fault.input
    got = GOT.get(type(sent), "something else")
    return refusal(
        fault,
        "invalid_type",
        f"Invalid type for {quoted(fault)}: expected {expected}, but got {got} instead.",
    )


def wrong_value(fault: Fault) -> InvalidRequest:
    if fault.path == ("purpose",):
        return wrong_purpose(fault)
    values = listed(values_in(fault.ctx.get("expected")), "and")
    return refusal(
        fault,
        "invalid_value",
        f"Invalid value: '{fault.input}'. Supported values are: {values}.",
    )


def wrong_purpose(fault: Fault) -> InvalidRequest:
    """Files came from another part of the hosted service, which had words of its own."""
    values = ", ".join(values_in(fault.ctx.get("expected")))
    return InvalidRequest(f"'{fault.input}' is not one of [{values}] - 'purpose'", param="purpose")


def missing_tag(fault: Fault) -> InvalidRequest:
    return missing(at_tag(fault))


def wrong_tag(fault: Fault) -> InvalidRequest:
    tag = at_tag(fault)
    return wrong_type(tag, kind) if (kind := expected_kind(tag)) else wrong_value(tag)


def at_tag(fault: Fault) -> Fault:
    """The same fault, as if the tag were an ordinary key with a few legal values."""
    key = str(fault.ctx.get("discriminator", "type")).strip("'")
    sent = cast("dict[str, Any]", fault.input) if isinstance(fault.input, dict) else {}
    return Fault(
        type="literal_error",
        path=(*fault.path, key),
        branches=fault.branches,
        input=sent.get(key),
        ctx={"expected": fault.ctx.get("expected_tags")},
        message=fault.message,
    )


def unfit(fault: Fault, code: str, problem: str, expected: str, got: str) -> InvalidRequest:
    return refusal(
        fault,
        code,
        f"Invalid {quoted(fault)}: {problem}. Expected {expected}, but got {got} instead.",
    )


def long_string(fault: Fault) -> InvalidRequest:
    expected = f"a string with maximum length {fault.ctx.get('max_length')}"
    got = f"a string with length {length(fault)}"
    return unfit(fault, "string_above_max_length", "string too long", expected, got)


def short_string(fault: Fault) -> InvalidRequest:
    return too_short(fault, "string", "a string")


def long_array(fault: Fault) -> InvalidRequest:
    expected = f"an array with maximum length {fault.ctx.get('max_length')}"
    got = f"an array with length {length(fault)}"
    return unfit(fault, "array_above_max_length", "array too long", expected, got)


def short_array(fault: Fault) -> InvalidRequest:
    return too_short(fault, "array", "an array")


def too_short(fault: Fault, noun: str, kind: str) -> InvalidRequest:
    expected = f"{kind} with minimum length {fault.ctx.get('min_length')}"
    if not length(fault):
        return unfit(fault, f"empty_{noun}", f"empty {noun}", expected, f"an empty {noun}")
    got = f"{kind} with length {length(fault)}"
    return unfit(fault, f"{noun}_below_min_length", f"{noun} too short", expected, got)


def too_many(fault: Fault) -> InvalidRequest:
    if not isinstance(fault.input, dict):
        return long_array(fault)
    expected = f"an object with at most {fault.ctx.get('max_length')} properties"
    got = f"an object with {length(fault)} properties"
    return unfit(fault, "object_above_max_properties", "too many properties", expected, got)


def long_key(fault: Fault) -> InvalidRequest:
    key = str(fault.input)
    return refusal(
        fault,
        "property_name_above_max_length",
        f"Invalid property name in '{shown(fault.path[:-1])}': '{key[:3]}...{key[-3:]}' is too long. Expected a "
        f"string with maximum length {fault.ctx.get('max_length')}, but got a string with length {len(key)} instead.",
    )


def length(fault: Fault) -> int:
    return len(cast("Sequence[object]", fault.input)) if hasattr(fault.input, "__len__") else 0


def wrong_pattern(fault: Fault) -> InvalidRequest:
    return refusal(
        fault,
        "invalid_value",
        f"Invalid {quoted(fault)}: string does not match pattern. Expected a string that matches the pattern "
        f"'{fault.ctx.get('pattern')}'.",
    )


def below(fault: Fault) -> InvalidRequest:
    return out_of_bounds(fault, {"ge": ">=", "gt": ">"}, "below", "minimum")


def above(fault: Fault) -> InvalidRequest:
    return out_of_bounds(fault, {"le": "<=", "lt": "<"}, "above", "maximum")


def out_of_bounds(fault: Fault, signs: Mapping[str, str], side: str, bound: str) -> InvalidRequest:
    """The bound has the field's type, whatever was sent: 3 is above a decimal's maximum of 2.0."""
    sign, limit = next(
        ((signs[name], limit) for name, limit in fault.ctx.items() if name in signs), ("", None)
    )
    kind = "decimal" if isinstance(limit, float) else "integer"
    return unfit(
        fault,
        f"{kind}_{side}_{bound[:3]}_value",
        f"{kind} {side} {bound} value",
        f"a value {sign} {number(limit)}",
        number(fault.input),
    )


def number(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return f"{value:.0f}"
    if isinstance(value, int) and value.bit_length() > 64:  # noqa: PLR2004
        return "a number of more than 64 bits"
    return str(value)


TELLERS: dict[str, Callable[[Fault], InvalidRequest]] = {
    "json_invalid": not_json,
    "missing": missing,
    "wrong_prefix": wrong_prefix,
    "exclusive": exclusive,
    "extra_forbidden": unknown,
    "literal_error": wrong_value,
    "union_tag_not_found": missing_tag,
    "union_tag_invalid": wrong_tag,
    "string_too_long": long_string,
    "string_too_short": short_string,
    "key_too_long": long_key,
    "too_long": too_many,
    "too_short": short_array,
    "string_pattern_mismatch": wrong_pattern,
    "greater_than_equal": below,
    "greater_than": below,
    "less_than_equal": above,
    "less_than": above,
}
