"""`threadloom config`: the settings as they are, as they could be, and whether they fit together."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from threadloom.config import Settings, is_duration, origin, read_yaml, section_of, written
from threadloom.errors import StartError
from threadloom.ids import RandomIds
from threadloom.llm.router import build_models
from threadloom.retrieval.embedders import open_embedder
from threadloom.sandbox.opening import open_sandbox

PASSWORD = re.compile(r"(://[^:/@\s]*:)\S+(?=@)|([?&](?:ssl)?password=)[^&#\s]+")
"""Of a user before the host, whatever is in it, or among the parameters."""
HEAD = """\
# All settings of Threadloom, with their defaults. Take the # before a name away, and before the names of its sections,
# to change it. An environment variable wins over this file: runs.lease is THREADLOOM_RUNS__LEASE there.
# Durations are 500ms, 15s, 10m, 2h or 7d; sizes are bytes.
"""


@dataclass(frozen=True)
class Setting:
    """One setting's value, as it may be shown: `name` is its path in YAML."""

    name: str
    value: object
    origin: str

    @property
    def text(self) -> str | None:
        return (
            self.value
            if self.value is None or isinstance(self.value, str)
            else json.dumps(self.value)
        )


def effective(settings: Settings, *, flags: frozenset[str], config: Path | None) -> list[Setting]:
    """All settings, secrets masked. `flags` are the names of those that were options of the command."""
    document, env_file = read_yaml(config), dotenv_values(".env")
    shown = settings.model_dump(mode="json")
    chosen = str(config or "config.yaml")
    found: list[Setting] = []
    for path, _ in leaves(Settings):
        value: Any = shown
        for name in path:
            value = value[name]
        source = "option" if path[0] in flags else origin(path, document, env_file)
        source = chosen if source == "file" else source
        found.append(Setting(".".join(path), without_passwords(value), source))
    return found


def without_passwords(value: Any) -> Any:
    """The same without the passwords of addresses."""
    match value:
        case str():
            return PASSWORD.sub(r"\1\2***", value)
        case list():
            return [without_passwords(one) for one in value]  # pyright: ignore[reportUnknownVariableType] - JSON
        case dict():
            return {name: without_passwords(one) for name, one in value.items()}  # pyright: ignore[reportUnknownVariableType] - JSON
        case _:
            return value


def leaves(
    section: type[BaseModel], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """All settings that are not sections, with their paths."""
    for name, field in section.model_fields.items():
        if inner := section_of(field):
            yield from leaves(inner, (*path, name))
        else:
            yield (*path, name), field


def example() -> str:
    """A `config.yaml` in which everything is commented out."""
    return "\n".join([HEAD, *example_of(Settings, "")]) + "\n"


def example_of(section: type[BaseModel], indent: str) -> Iterator[str]:
    """Like the files of PostgreSQL: `# ` begins what is said, `#` alone what could be set."""
    for name, field in section.model_fields.items():
        if inner := section_of(field):
            yield f"{indent}# {inner.__doc__}"
            yield f"{indent}#{name}:"
            yield from example_of(inner, indent + "  ")
        else:
            yield f"{indent}# {field.description}"
            yield f"{indent}#{name}: {default_of(field)}".rstrip()
        if not indent:
            yield ""


def default_of(field: FieldInfo) -> str:
    """As YAML, which knows all of JSON; nothing where nothing is set."""
    default: Any = field.get_default(call_default_factory=True, validated_data={})
    if default is None:
        return ""
    if is_duration(field):
        return written(default)
    return str(default) if isinstance(default, Path) else json.dumps(default)


def schema() -> Mapping[str, Any]:
    """JSON Schema of `config.yaml`, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Settings.model_json_schema(),
    }


async def check(settings: Settings) -> None:
    """What no setting alone can be blamed for. Touches nothing. Raises StartError."""
    async with build_models(settings, RandomIds()):
        pass
    await open_embedder(settings).close()
    await open_sandbox(settings.code_interpreter.model_copy(update={"pool": 0})).close()
    if settings.file_search.index == "pgvector" and settings.database_url.startswith("sqlite"):
        raise StartError(
            "The setting file_search.index is `pgvector`, which needs PostgreSQL: set database.url."
        )
