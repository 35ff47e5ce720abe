"""Settings from every source: flag, environment, `.env`, `config.yaml`, default."""

import difflib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import yaml
from dotenv import dotenv_values
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsError,
)

from threadloom.config.tree import DELIMITER, PREFIX, Settings
from threadloom.config.values import section_of
from threadloom.errors import StartError

FAULT = PREFIX + "FAULT"
"""Not a setting, and on no page of settings: a test's order to fail (threadloom.faults)."""


ENV_FILE = Path(".env")
"""In the directory that the program was started in."""

IMPORT_KEY = PREFIX + "IMPORT__API_KEY"
"""Not a setting either: the key of a server that `threadloom import --from-api` copies from."""


def import_key(path: str | None) -> SecretStr:
    """That key: from a file, from standard input (`-`), or from the environment or `.env`. Raises StartError."""
    try:
        match path:
            case None:
                key = os.environ.get(IMPORT_KEY) or dotenv_values(ENV_FILE).get(IMPORT_KEY) or ""
            case "-":
                key = sys.stdin.readline()
            case _:
                key = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"Cannot read the key: {error}") from None
    if not key.strip():
        raise StartError(
            f"The other server's key is missing: set {IMPORT_KEY}, or give --api-key-file."
        )
    return SecretStr(key.strip())


def asked_fault() -> str | None:
    """The fault that the environment asks for."""
    return os.environ.get(FAULT)


def variable(name: str) -> str | None:
    """One that is not a setting of ours, such as `OPENAI_API_KEY`; None when it is unset or empty."""
    return os.environ.get(name) or None


def load_settings(
    flags: Mapping[str, Any], *, config: Path | None = None, env_file: Path = ENV_FILE
) -> Settings:
    """Read every source once. Raises StartError with a sentence that names what is wrong."""
    refuse_unknown_variables([*os.environ, *dotenv_values(env_file)])
    document = read_yaml(config)

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            # A `.env` file is shared with other programs: their names are not ours to refuse.
            ours = {k: v for k, v in dotenv_settings().items() if k in cls.model_fields}
            return (
                init_settings,
                env_settings,
                InitSettingsSource(settings_cls, ours),
                InitSettingsSource(settings_cls, document),
            )

    try:
        return Loaded(_env_file=env_file, **flags)  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        raise StartError(explain(error)) from None
    except SettingsError as error:
        raise StartError(f"Cannot read the settings: {error}. Lists and maps are JSON.") from None


def read_yaml(path: Path | None) -> dict[str, Any]:
    """The settings file; without a path, `config.yaml` here if there is one."""
    chosen = path or Path("config.yaml")
    if path is None and not chosen.exists():
        return {}
    try:
        document: object = yaml.safe_load(chosen.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StartError(f"Cannot read the settings file {chosen}: {error}") from None
    if not isinstance(document, dict) or not all(
        isinstance(name, str) for name in cast(dict[object, object], document)
    ):
        raise StartError(f"The settings file {chosen} must hold a mapping of names.")
    return cast(dict[str, Any], document)  # checked above


def variables(section: type[BaseModel] = Settings, prefix: str = PREFIX) -> Iterator[str]:
    """The names of all environment variables, in the tree's order."""
    for name, field in section.model_fields.items():
        variable = prefix + name.upper()
        if inner := section_of(field):
            yield from variables(inner, variable + DELIMITER)
        else:
            yield variable


def origin(path: Sequence[str], document: Mapping[str, Any], env_file: Mapping[str, Any]) -> str:
    """Where a setting's value is from; a variable may also hold a whole section."""
    names = [PREFIX + DELIMITER.join(path[:length]).upper() for length in range(1, len(path) + 1)]
    for source, known in (("environment", os.environ), (".env", env_file)):
        if not {name.upper() for name in known}.isdisjoint(names):
            return source
    found: Any = document
    for name in path:
        if not isinstance(found, dict) or name not in found:
            return "default"
        found = cast(dict[str, Any], found)[name]
    return "file"


def refuse_unknown_variables(names: Iterable[str]) -> None:
    """A misspelled variable would otherwise be ignored in silence."""
    known = [*variables(), FAULT, IMPORT_KEY]
    for name in names:
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            raise StartError(f"Unknown setting {name}.{suggestion(name.upper(), known)}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """` Did you mean X?`, or nothing when nothing is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]}?" if near else ""


def explain(error: ValidationError) -> str:
    """One line for each fault, with the path as it stands in YAML."""
    return "\n".join(
        f"Setting {'.'.join(map(str, fault['loc']))}: {explain_fault(fault['type'], fault['msg'], fault['loc'])}"
        for fault in error.errors(include_url=False)
    )


def explain_fault(kind: str, text: str, path: tuple[int | str, ...]) -> str:
    if kind != "extra_forbidden":
        return text + "."
    known = section_at(path[:-1]).model_fields
    return f"unknown.{suggestion(str(path[-1]), known)}"


def section_at(path: tuple[int | str, ...]) -> type[BaseModel]:
    """The section that a path of names and indexes leads to."""
    section: type[BaseModel] = Settings
    for name in path:
        kind = section.model_fields[name].annotation if name in section.model_fields else None
        for candidate in (kind, *get_args(kind)):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                section = candidate
    return section
