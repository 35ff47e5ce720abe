"""Writes docs/reference/errors.md from the errors in the code: `python -m tools.errors`."""

import ast
import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import get_args

from threadloom.errors import ApiError, ErrorType, RateLimited
from threadloom.types.messages import IncompleteReason
from threadloom.types.runs import Budget, LastErrorCode
from threadloom.types.vector_stores import FileErrorCode

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "errors.md"
SOURCE = ROOT / "src" / "threadloom"
REFUSING = {"refusal", "unfit", "fault"}
"""Functions that are given an error's code by its place."""
OUTSIDE = frozenset({"cli", "commands", "llm", "sandbox", "testing"})
"""Packages that answer no client of the API."""
SHAPE = """# Errors

Every refusal has the hosted service's shape, and `x-request-id` in its headers:

```json
{"error": {"message": "No thread found with id 'thread_abc'.", "type": "invalid_request_error", "param": null, "code": null}}
```

The SDKs raise an exception for each status. They try 408, 409, 429 and 5xx again by themselves, and obey `retry-after` and `retry-after-ms`.
The commands' exit codes are in [the reference of commands](cli.md).
`tools/errors.py` writes this page; a test fails when a code is missing.
"""
STATUSES: Mapping[str, str] = {
    "ApiError": "Try again; if it stays, look for the `x-request-id` in the server's log.",
    "InvalidRequest": "Read `message` and `param`; the code is below.",
    "Unauthorized": "Send `Authorization: Bearer` or `api-key` with a key that `threadloom keys list` shows.",
    "NotFound": "Check id and address, and whose key it is: objects of other projects are not found. The address ends in `/v1`.",
    "MethodNotAllowed": "Look up the [endpoint](endpoints.md).",
    "BodyTooSlow": "Send it again; for a minute nothing of it came.",
    "HeadTooLarge": "Send fewer and shorter headers, and a shorter address.",
    "BodyTooLarge": "Send less, or raise the limit that the message tells: `THREADLOOM_SERVER__MAX_BODY`, `THREADLOOM_FILES__MAX_BYTES`.",
    "RateLimited": "Wait as `retry-after` says. The operator sees and sets [limits](../limits.md).",
    "BlobMissing": "The operator restores the file storage; it does not have what the database knows of.",
    "Unavailable": "Wait a moment; SDKs do by themselves.",
    "Overloaded": "Wait a moment; SDKs do by themselves. If it lasts, [more processes](../processes.md).",
    "EmbeddingError": "Wait a moment. The operator looks at the embedding server, `THREADLOOM_EMBEDDINGS__BASE_URL`.",
    "StorageUnavailable": "Wait a moment. The operator looks at the directory or bucket of `THREADLOOM_STORAGE__URL`.",
    "DatabaseUnavailable": "Wait a moment. The operator looks at the database.",
    "NoRoom": "The operator makes room on the disk; nothing is to be restarted.",
    "KeyReused": "See [idempotency](../idempotency.md).",
    "KeyInUse": "See [idempotency](../idempotency.md).",
}
"""What to do, by error."""
CODES: Mapping[str, tuple[str, str]] = {
    "array_above_max_length": ("a list is too long", "Send less at once."),
    "*_*_*_value": (
        "`integer_below_min_value`, `decimal_above_max_value` and so on: a number is out of bounds",
        "The message has the bound.",
    ),
    "*_below_min_length": ("a text or list is too short", "The message has the bound."),
    "empty_*": ("`empty_string`, `empty_array`: there must be something", "Send something."),
    "idempotency_key_in_use": ("the first request with this key goes on", "Send it again later."),
    "idempotency_key_reused": ("the key came with another request", "Use a new key."),
    "insufficient_quota": (
        "the month's tokens of the project are spent",
        "Wait for the next month, or ask the operator.",
    ),
    "integer_above_max_value": ("a number is too large", "The message has the bound."),
    "invalid_api_key": ("no such key, or it was revoked", "Use another key."),
    "invalid_beta": (
        "`OpenAI-Beta: assistants=v1`, or none where the server wants one",
        "Send `OpenAI-Beta: assistants=v2`.",
    ),
    "invalid_idempotency_key": ("1 to 255 printable characters", "Shorten the key."),
    "invalid_thread": (
        "a run has neither a message nor instructions to go by",
        "Add a message of a user.",
    ),
    "invalid_type": ("a value has another type", "The message says which is expected."),
    "invalid_value": ("a value is none of those that are possible", "The message lists them."),
    "missing_required_parameter": ("a field is missing", "Send the field in `param`."),
    "model_not_found": (
        "`GET /v1/models/{model}`: nobody has it",
        "Use another name, or set an [alias](../move.md#models).",
    ),
    "mutually_exclusive_parameters": ("two fields exclude each other", "Send one of them."),
    "object_above_max_properties": ("`metadata` or `attributes` has too many keys", "Send less."),
    "property_name_above_max_length": ("a key of `metadata` is too long", "Shorten the key."),
    "rate_limit_exceeded": ("a limit by minute, or of runs at once", "Wait as `retry-after` says."),
    "string_above_max_length": ("a text is too long", "The message has the bound."),
    "unknown_parameter": ("a field that the API does not have", "Leave it out."),
    "unsupported_file": (
        "file search cannot read files of this name",
        "See [vector stores](../vector-stores.md).",
    ),
    "webhook_test_failed": ("the endpoint did not answer with 2xx", "See the message."),
}
"""When, and what to do, by code; what is computed is a `*`."""
RUNS: Mapping[str, tuple[str, str]] = {
    "server_error": (
        "the model, its provider or a tool failed, or the provider does not know the model",
        "The message says whose turn it is: often the operator's. Create the run again.",
    ),
    "rate_limit_exceeded": ("the provider refused for its own limits", "Create the run later."),
    "invalid_prompt": (
        "the conversation is too long for the model, was refused under the provider's policy, or has a picture that it cannot read",
        "Shorten or change it: `truncation_strategy`, `max_prompt_tokens`.",
    ),
}
FILES: Mapping[str, tuple[str, str]] = {
    "server_error": ("the embedder or the storage failed, several times", "Attach the file again."),
    "unsupported_file": ("its kind cannot be read", "Convert it."),
    "invalid_file": ("it is broken, locked, or has no text", "Mend it and upload it again."),
}
CUTS: Mapping[str, str] = {
    "max_completion_tokens": "run: the budget for answers is spent, or the model's own limit cut the answer",
    "max_prompt_tokens": "run: the budget for prompts is spent",
    "content_filter": "message: the provider stopped it for what it says",
    "max_tokens": "message: a budget of its run was spent",
    "run_cancelled": "message: its run was cancelled",
    "run_expired": "message: its run expired",
    "run_failed": "message: its run failed, or its worker was lost",
}
TYPES: Mapping[str, str] = {
    "invalid_request_error": "4xx but 429: the request has to change",
    "server_error": "5xx: the same request may succeed later",
    "requests": "429: too many requests, or runs at once",
    "tokens": "429: too many tokens in a minute",
    "insufficient_quota": "429: the month's tokens are spent; `x-should-retry: false`",
}


def page() -> str:
    return "\n".join([SHAPE, *statuses(), *types(), *codes(), *in_objects()])


def statuses() -> Iterator[str]:
    yield "## By status\n\n| status | message, unless there is a better one | what to do |\n|---|---|---|"
    import_module("threadloom.app")  # and with it all modules that define errors
    found = {kind.__name__: kind for kind in kinds(ApiError)}
    check(found, STATUSES)
    for name, kind in sorted(found.items(), key=lambda item: item[1].status):
        yield f"| {kind.status} | {inspect.getdoc(kind)} | {STATUSES[name]} |"
    yield ""


def kinds(kind: type[ApiError]) -> Iterator[type[ApiError]]:
    """A class of error and all below it."""
    yield kind
    for narrower in kind.__subclasses__():
        yield from kinds(narrower)


def types() -> Iterator[str]:
    check(get_args(ErrorType), TYPES)
    yield "## By `type`\n\n| type | |\n|---|---|"
    yield from (f"| `{name}` | {TYPES[name]} |" for name in get_args(ErrorType))
    yield ""


def codes() -> Iterator[str]:
    default = inspect.signature(RateLimited).parameters["code"].default
    found = {*codes_in_source(), default, "insufficient_quota"}
    check(found, CODES)
    yield "## By `code`\n\n`code` is null for many refusals. `*` stands for a word.\n"
    yield from table(CODES)


def codes_in_source() -> set[str]:
    """What calls in the API's code give as an error's code."""
    paths = (
        path for path in SOURCE.rglob("*.py") if path.relative_to(SOURCE).parts[0] not in OUTSIDE
    )
    calls = (node for path in paths for node in ast.walk(ast.parse(path.read_text())))
    return {
        code
        for call in calls
        if isinstance(call, ast.Call)
        for value in code_of(call)
        if (code := text_of(value)) is not None
    }


def code_of(call: ast.Call) -> Iterator[ast.expr]:
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    if name in REFUSING:
        yield from call.args[:1] if name == "fault" else call.args[1:2]
    elif name != "LastError":
        yield from (keyword.value for keyword in call.keywords if keyword.arg == "code")


def text_of(value: ast.expr) -> str | None:
    match value:
        case ast.Constant(value=str(text)) if " " not in text:
            return text
        case ast.JoinedStr(values=parts):
            return "".join(text_of(part) or "*" for part in parts)
        case _:
            return None


def in_objects() -> Iterator[str]:
    check(get_args(LastErrorCode), RUNS)
    yield "## Runs: `last_error.code`\n\nA run that failed has `status: failed`; nothing is raised.\n"
    yield from table(RUNS)
    check((*get_args(Budget), *get_args(IncompleteReason)), CUTS)
    yield "## Runs and messages: `incomplete_details.reason`\n\n| reason | of a |\n|---|---|"
    yield from (f"| `{name}` | {meaning} |" for name, meaning in CUTS.items())
    check(get_args(FileErrorCode), FILES)
    yield "\n## Files in vector stores: `last_error.code`\n"
    yield from table(FILES)


def table(entries: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    yield "| code | when | what to do |\n|---|---|---|"
    for code, (when, do) in sorted(entries.items()):
        yield f"| `{code}` | {when} | {do} |"
    yield ""


def check(
    found: "set[str] | dict[str, type[ApiError]] | tuple[str, ...]", told: Mapping[str, object]
) -> None:
    """What the code has and what is told here are the same. Raises ValueError."""
    if different := set(found) ^ set(told):
        raise ValueError(f"tools/errors.py and the code differ in: {', '.join(sorted(different))}")


if __name__ == "__main__":
    PAGE.write_text(page())
