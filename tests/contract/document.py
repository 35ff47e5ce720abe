"""OpenAI's own description of the API, against which every answer and event of a test is checked."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, Self, cast

import jsonschema_rs
import yaml

from tests.contract.order import check_order

__all__ = ["Document", "check_order"]

Json = dict[str, Any]

FILE = Path(__file__).with_name("openai.openapi.yaml")
ROOTS = re.compile(r"^(/openai)?(/v1)?(?=/)")
SCHEMAS = "#/components/schemas/"
FIRST_ERROR_STATUS = 400
EVENTS = ("ThreadStreamEvent", "RunStreamEvent", "RunStepStreamEvent", "MessageStreamEvent")


class Fault(Protocol):
    """What is used of jsonschema's errors; it has no types."""

    json_path: str
    message: str


@dataclass(frozen=True)
class Validator:
    """Asked in Rust, in microseconds, because every answer of every test passes here; explained by jsonschema."""

    schema: Json
    fast: jsonschema_rs.Validator

    def check(self, body: object, place: str) -> None:
        if self.fast.is_valid(body):
            return
        fault = explained(self.schema, body)
        assert fault is not None, f"{place}: the two validators disagree"
        raise AssertionError(f"{place}: {fault.json_path}: {fault.message}")


@dataclass(frozen=True)
class Operation:
    """A method and a path template, and what a success looks like."""

    method: str
    path: re.Pattern[str]
    answer: Validator


@dataclass(frozen=True)
class Document:
    """The schemas, compiled."""

    operations: list[Operation]
    events: Mapping[str, Validator]
    refusal: Validator

    @classmethod
    @cache
    def load(cls) -> Self:
        document = relaxed(read())
        schemas: Json = document["components"]["schemas"]
        return cls(
            operations=list(operations(document["paths"], schemas)),
            events={
                event["properties"]["event"]["enum"][0]: compiled(
                    event["properties"]["data"], schemas
                )
                for group in EVENTS
                for event in schemas[group]["oneOf"]
            },
            refusal=compiled({"$ref": SCHEMAS + "ErrorResponse"}, schemas),
        )

    def describes(self, method: str, path: str) -> bool:
        """Whether OpenAI has this operation: Threadloom has some of its own."""
        return self._operation(method, path) is not None

    def check_response(self, method: str, path: str, status: int, body: object) -> None:
        """A body must be what OpenAI says its operation answers with, or an error in its envelope."""
        place = f"{method} {path} -> {status}"
        if status >= FIRST_ERROR_STATUS:
            self.refusal.check(body, place)
            return
        operation = self._operation(method, path)
        assert operation is not None, f"{place}: OpenAI has no such operation"
        operation.answer.check(body, place)
        check_page(body, place)

    def check_event(self, name: str, data: object) -> None:
        """The data of a stream's event must be what OpenAI says this event carries."""
        if name == "done":
            assert data == "[DONE]", f"done carries {data!r}"
            return
        # The schema has a bare error here, but the SDKs raise only when it is in its envelope.
        validator = self.refusal if name == "error" else self.events.get(name)
        assert validator is not None, f"{name}: OpenAI has no such event"
        validator.check(data, name)

    def _operation(self, method: str, path: str) -> Operation | None:
        address = ROOTS.sub("", path.partition("?")[0], count=1)
        return next(
            (
                operation
                for operation in self.operations
                if operation.method == method.lower() and operation.path.fullmatch(address)
            ),
            None,
        )


def read() -> Json:
    return yaml.load(FILE.read_text(), Loader=yaml.CSafeLoader)


def operations(paths: Json, schemas: Json) -> Iterator[Operation]:
    """Fixed paths first: `/threads/runs` is not the thread `runs`."""
    for path in sorted(paths, key=lambda path: path.count("{")):
        template = re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)))
        for method, operation in paths[path].items():
            content = operation["responses"]["200"]["content"]
            schema = content["application/json"]["schema"]
            yield Operation(method, template, compiled(schema, schemas))


def compiled(schema: Json, schemas: Json) -> Validator:
    """With its references filled in: no schema of an answer contains itself."""
    whole: Json = filled_in(schema, schemas)
    return Validator(whole, jsonschema_rs.Draft202012Validator(whole))


def filled_in(part: Any, schemas: Json) -> Any:
    if isinstance(part, list):
        return [filled_in(each, schemas) for each in cast("list[Any]", part)]
    if not isinstance(part, dict):
        return part
    schema = cast("Json", part)
    if "$ref" in schema:
        return filled_in(schemas[schema["$ref"].removeprefix(SCHEMAS)], schemas)
    return {key: filled_in(value, schemas) for key, value in schema.items()}


def explained(schema: Json, body: object) -> Fault | None:
    import jsonschema.exceptions  # noqa: PLC0415 (it compiles grammars for four seconds, in each test process)

    errors = jsonschema.Draft202012Validator(schema).iter_errors(cast("Any", body))  # pyright: ignore[reportUnknownMemberType]
    return cast("Fault | None", jsonschema.exceptions.best_match(errors))  # pyright: ignore[reportUnknownMemberType]


def check_page(body: object, place: str) -> None:
    """The schema does not say that the ids are those of the ends; it is relaxed for empty pages only."""
    if not isinstance(body, dict) or "first_id" not in body:
        return
    page = cast("Json", body)
    ids = [item["id"] for item in page["data"]] or [None]
    assert (page["first_id"], page["last_id"]) == (ids[0], ids[-1]), f"{place}: first_id, last_id"


def relaxed(document: Json) -> Json:
    """As the hosted service was. Nothing else is forgiven."""
    schemas: Json = document["components"]["schemas"]
    for name, schema in schemas.items():
        if name.startswith("List") and "first_id" in schema["properties"]:
            or_null(schema, "first_id", "last_id")
    or_null(schemas["OpenAIFile"], "expires_at", "status_details")
    or_null(schemas["VectorStoreObject"], "name", "expires_after")
    or_null(schemas["RunObject"], "instructions")
    # Files are made for evaluations, but the schema of a file does not know it.
    schemas["OpenAIFile"]["properties"]["purpose"]["enum"] += ["evals"]
    schemas["VectorStoreFileBatchObject"]["properties"]["object"]["enum"] += [
        "vector_store.file_batch"
    ]
    # A recorded run had 16.
    del schemas["RunObject"]["properties"]["max_completion_tokens"]["minimum"]
    document["components"]["schemas"] = {
        name: without_nullable(schema) for name, schema in schemas.items()
    }
    return document


def or_null(schema: Json, *names: str) -> None:
    for name in names:
        schema["properties"][name] = {"anyOf": [schema["properties"][name], {"type": "null"}]}


def without_nullable(part: Any) -> Any:
    """`nullable` is left over from OpenAPI 3.0; 3.1 and JSON Schema ignore it."""
    if isinstance(part, list):
        return [without_nullable(each) for each in cast("list[Any]", part)]
    if not isinstance(part, dict):
        return part
    marked = cast("Json", part)
    schema = {key: without_nullable(value) for key, value in marked.items() if key != "nullable"}
    nullable = marked.get("nullable") is True or {"nullable": True} in marked.get("allOf", ())
    return {"anyOf": [schema, {"type": "null"}]} if nullable else schema
