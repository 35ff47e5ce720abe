"""Writes docs/reference/endpoints.md from OpenAI's document and our own routes: `python -m tools.endpoints`."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.contract.document import FILE, read
from threadloom.app import bare_app, routes
from threadloom.types.files import FileCreate

Json = dict[str, Any]
PAGE = Path(__file__).parents[1] / "docs" / "reference" / "endpoints.md"
HEAD = """# Endpoints

Of the {all} operations that OpenAI's own document has for assistants, threads, messages, runs, run steps, files, uploads, vector stores and models, **{here} are here**.
The tables compare that document (`tests/contract/openai.openapi.yaml`, of {day}) with the server's own routes: query parameters, and the fields of requests and answers at
their top level. *More* is what the server takes or answers beyond the document, *less* what it lacks; empty cells mean the same as in the document. `?name` is in the query,
`name` in the request's body, `→ name` in the answer.

That names agree says little. Every answer in the tests is checked against the schemas of the same document (`tests/contract/`), and SDKs from openai-python 1.30 and openai-node 4.104
on are run against the server (`tests/compat/`). `tools/endpoints.py` writes this page.

Azure clients reach the same under `/openai/…` and `/openai/v1/…`.
"""
GUIDES = {
    "assistants": ("Assistants", "[runs](../runs.md)"),
    "threads": ("Threads and messages", "[runs](../runs.md), [citations](../citations.md)"),
    "runs": ("Runs and run steps", "[what happens to a run](../runs.md)"),
    "files": ("Files", "[files and uploads](../files.md)"),
    "uploads": ("Uploads", "[files and uploads](../files.md)"),
    "vector_stores": (
        "Vector stores",
        "[vector stores](../vector-stores.md), [how well search finds](../retrieval.md)",
    ),
    "models": ("Models", "[models and aliases](../move.md#models)"),
}
ABSENT = {"deleteModel": "no: it deletes models that were fine-tuned, and there are none"}
"""Operations that are not here, and why."""
NOTHING: frozenset[str] = frozenset()
FORMS: Mapping[str, frozenset[str]] = {"/v1/files": frozenset(FileCreate.model_fields)}
"""Forms are read piece by piece; their routes declare only what must be there."""
NAMELESS = re.compile(r"\{.*?\}")
LINK = re.compile(r"\[(.*?)\]\(.*?\)")


@dataclass(frozen=True)
class Operation:
    """A method and path, with the names of what goes in and comes out."""

    method: str
    path: str
    summary: str
    name: str
    query: frozenset[str]
    body: frozenset[str]
    answer: frozenset[str]

    @property
    def key(self) -> tuple[str, str]:
        """Two documents may name the parts of a path differently."""
        return self.method, NAMELESS.sub("{}", self.path.removeprefix("/v1"))

    @property
    def group(self) -> str:
        first, *rest = self.path.split("/")[1:]
        return "runs" if first == "threads" and "runs" in rest else first


def page() -> str:
    theirs = list(operations(read()))
    ours = {one.key: one for one in operations(own_document())}
    known = [(one, ours.pop(one.key, None)) for one in theirs]
    here = sum(mine is not None for _, mine in known)
    head = HEAD.format(all=len(known), here=here, day=day())
    return "\n".join([head, *compared(known), *additions(list(ours.values()))])


def day() -> str:
    """Of OpenAI's document, which says it in its first lines."""
    found = re.search(r"of (\d{4}-\d\d-\d\d)", FILE.read_text())
    assert found
    return found[1]


def own_document() -> Json:
    app = bare_app()
    app.router.routes.extend(routes())
    return app.openapi()


def operations(document: Json) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parameters = operation.get("parameters", ())
            query = (each["name"] for each in parameters if each["in"] == "query")
            answers = operation["responses"]["200"].get("content", {})
            bodies = operation.get("requestBody", {}).get("content", {})
            yield Operation(
                method=method.upper(),
                path=path,
                summary=first_sentence(operation.get("summary", "")),
                name=operation["operationId"],
                query=frozenset(name.removesuffix("[]") for name in query),
                body=fields_of(bodies, document) | FORMS.get(path if bodies else "", NOTHING),
                answer=fields_of(answers, document),
            )


def first_sentence(text: str) -> str:
    """On one line, without links, which lead to OpenAI's site."""
    return LINK.sub(r"\1", " ".join(text.split())).partition(". ")[0].rstrip(".")


def fields_of(content: Json, document: Json) -> frozenset[str]:
    """The names of a body's fields in any of its forms."""
    found = (names(kind.get("schema", {}), document) for kind in content.values())
    return NOTHING.union(*found)


def names(schema: Json, document: Json) -> set[str]:
    if "$ref" in schema:
        place = schema["$ref"].rpartition("/")[2]
        return names(document["components"]["schemas"][place], document)
    inner = (each for union in ("allOf", "anyOf", "oneOf") for each in schema.get(union, ()))
    return set(schema.get("properties", ())).union(*(names(each, document) for each in inner))


def compared(known: list[tuple[Operation, Operation | None]]) -> Iterator[str]:
    for group, (title, guides) in GUIDES.items():
        yield f"## {title}\n\n{guides}\n"
        yield "| OpenAI's operation | | here | more | less |\n|---|---|---|---|---|"
        for theirs, mine in known:
            if theirs.group == group:
                yield row(theirs, mine)
        yield ""


def row(theirs: Operation, mine: Operation | None) -> str:
    place = f"`{theirs.method} {theirs.path}`<br>{theirs.name}"
    if mine is None:
        return f"| {place} | {theirs.summary} | {ABSENT[theirs.name]} | | |"
    return f"| {place} | {theirs.summary} | yes | {difference(mine, theirs)} | {difference(theirs, mine)} |"


def difference(larger: Operation, smaller: Operation) -> str:
    """What only the first has: `?name` in the query, `name` in the request, `→ name` in the answer."""
    only = [f"`?{name}`" for name in sorted(larger.query - smaller.query)]
    only += [f"`{name}`" for name in sorted(larger.body - smaller.body)]
    only += [f"→ `{name}`" for name in sorted(larger.answer - smaller.answer)]
    return ", ".join(only)


def additions(own: list[Operation]) -> Iterator[str]:
    yield (
        "## Beyond OpenAI's document\n\n[Webhooks](../webhooks.md) have the routes of OpenAI's newer SDKs. "
        "`/healthz` and `/readyz` need no key; `/version` needs none from this machine.\n"
    )
    yield "| operation | |\n|---|---|"
    for one in sorted(own, key=lambda one: (one.path, one.method)):
        yield f"| `{one.method} {one.path}` | {one.summary.capitalize()} |"
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page())
