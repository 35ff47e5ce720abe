"""One fault in the words of the hosted service; programs match on these texts."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, get_args

from pydantic_core import core_schema

from threadloom.api.validation.faults import Fault, Path
from threadloom.errors import InvalidRequest

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
QUOTED = re.compile(r"'([^']*)'")
BUILT_IN: frozenset[str] = frozenset(get_args(core_schema.ErrorType))


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
