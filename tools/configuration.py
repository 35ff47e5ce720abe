"""Writes docs/configuration.md and .env.example from the settings themselves: `python tools/configuration.py`."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from threadloom.config import (
    DELIMITER,
    PREFIX,
    Provider,
    Settings,
    is_duration,
    section_of,
    written,
)

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "configuration.md"
EXAMPLE = ROOT / ".env.example"
HEAD = """# Configuration

The order is: flag, then environment, then `.env`, then `config.yaml` (or the file that `--config` names), then the default.
`.env`, `config.yaml` and the data directory `.threadloom` are looked for in the directory in which a command is started, and nowhere else.
In YAML the same names form a tree: `THREADLOOM_RUNS__LEASE` is `runs: {lease: 15s}`. Durations are `500ms`, `15s`, `10m`, `2h`, `7d`.
A misspelled name stops the start and suggests the right one. `tools/configuration.py` writes this page.
"""

EXAMPLE_HEAD = """\
# Every variable, with its default. Copy this to .env and uncomment what you change; a name that is misspelled stops the start.
# For docker-compose.yml `threadloom init` writes a .env with THREADLOOM_AUTH__ADMIN_KEY and POSTGRES_PASSWORD; DOCKER_GID is to be added, as docs/compose.md says.
# Passwords: any text without quotes, line breaks, `$` and `#`.

# --- docker-compose.yml only ---

# Of the database.
POSTGRES_PASSWORD=
# The group that may use the engine's socket: stat -c %g /var/run/docker.sock, or 0 for Docker Desktop.
DOCKER_GID=
# Where that socket is.
# DOCKER_SOCKET=/var/run/docker.sock
# Workers to start.
# WORKERS=1
# Name of the image of API, worker and sandbox runner, and what it and the image for code are built on.
# IMAGE=threadloom
# BASE=python:3.12-slim
# PostgreSQL with pgvector.
# POSTGRES_IMAGE=pgvector/pgvector:pg18

# --- What most set first ---

# The model that answers: any server that speaks Chat Completions. From a container, this machine is host.docker.internal.
# THREADLOOM_UPSTREAM__BASE_URL=http://127.0.0.1:11434/v1
# Old programs hard-code model names; lead them to yours.
# THREADLOOM_ALIASES={"gpt-4o": "qwen3:14b", "gpt-*": "llama3.3"}

# --- All settings; docker-compose.yml needs THREADLOOM_AUTH__ADMIN_KEY, and sets data directory, host and port in its containers itself ---
"""


def tables(section: type[BaseModel], prefix: str) -> Iterator[str]:
    """The section's own settings as a table, then its sections."""
    own = [
        (name, field) for name, field in section.model_fields.items() if section_of(field) is None
    ]
    yield f"## {prefix.removesuffix(DELIMITER)}\n\n{section.__doc__}\n"
    yield "| variable | default | |\n|---|---|---|"
    for name, field in own:
        yield f"| `{prefix}{name.upper()}` | {default_of(field)} | {field.description} |"
    yield ""
    for name, field in section.model_fields.items():
        if inner := section_of(field):
            yield from tables(inner, f"{prefix}{name.upper()}{DELIMITER}")


def examples(section: type[BaseModel], prefix: str) -> Iterator[str]:
    """The section's own settings as lines of an environment file, then its sections."""
    yield f"\n# {section.__doc__}\n"
    for name, field in section.model_fields.items():
        if section_of(field) is None:
            yield f"# {field.description}"
            yield f"# {prefix}{name.upper()}={default_of(field).strip('`')}"
    for name, field in section.model_fields.items():
        if inner := section_of(field):
            yield from examples(inner, f"{prefix}{name.upper()}{DELIMITER}")


def default_of(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True, validated_data={})
    if default in (None, (), {}):
        return ""
    return f"`{written(default) if is_duration(field) else default}`"


def page() -> str:
    providers = "## A provider in `config.yaml`\n\n| key | |\n|---|---|"
    keys = (f"| `{name}` | {field.description} |" for name, field in Provider.model_fields.items())
    return "\n".join([HEAD, *tables(Settings, PREFIX), providers, *keys, ""])


def example() -> str:
    return "\n".join([EXAMPLE_HEAD.rstrip(), *examples(Settings, PREFIX), ""])


if __name__ == "__main__":
    PAGE.write_text(page())
    EXAMPLE.write_text(example())
