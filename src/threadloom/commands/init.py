"""`threadloom init`: a `.env` with secrets of its own, for docker compose and for `serve` in this directory."""

import os
import re
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values
from pydantic import SecretStr

from threadloom.config import Settings, variable
from threadloom.errors import StartError

PLAIN = re.compile(r"[\w./:@%+=,-]*", re.ASCII)
ADMIN_KEY = "THREADLOOM_AUTH__ADMIN_KEY"
PASSWORD = "POSTGRES_PASSWORD"  # noqa: S105 - the name of a variable
BASE_URL = "THREADLOOM_UPSTREAM__BASE_URL"
API_KEY = "THREADLOOM_UPSTREAM__API_KEY"
ABOUT = {
    ADMIN_KEY: "The key that programs call with, in the default project. More: `threadloom keys create`.",
    PASSWORD: "PostgreSQL's, in docker compose. Set once: a database that was made with it keeps it.",
    BASE_URL: "The model that answers: any server that speaks Chat Completions. Unset: the embedded demonstration.",
    API_KEY: "Its key.",
}


def values(
    settings: Settings, path: Path, *, base_url: str | None, api_key: str | None
) -> Mapping[str, str]:
    """What the file is to hold: what was given, what is set already, there or elsewhere, and new secrets for the rest."""
    upstream = settings.upstream
    chosen = {
        ADMIN_KEY: revealed(settings.auth.admin_key) or "sk-" + secrets.token_urlsafe(32),
        PASSWORD: variable(PASSWORD) or dotenv_values(path).get(PASSWORD) or secrets.token_hex(24),
        BASE_URL: base_url or upstream.base_url or "",
        API_KEY: api_key or revealed(upstream.api_key) or "",
    }
    for name, value in chosen.items():
        if "\n" in value or "'" in value:
            raise StartError(f"{name} has a line break or a quote in it, which a .env cannot hold.")
    return chosen


def revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def text_of(chosen: Mapping[str, str]) -> str:
    lines = [
        "# Written by `threadloom init`. Keep it to yourself. `.env.example` has what else may be set."
    ]
    for name, value in chosen.items():
        lines += ["", f"# {ABOUT[name]}", f"{name}={quoted(value)}" if value else f"# {name}="]
    return "\n".join([*lines, ""])


def quoted(value: str) -> str:
    """For python-dotenv, docker compose and shells alike."""
    return value if PLAIN.fullmatch(value) else f"'{value}'"


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raises StartError when there is such a file already, unless forced."""
    if path.exists() and not force:
        raise StartError(
            f"There is a {path} already: --force writes it anew, with its secrets but without its other lines."
        )


def is_asked() -> bool:
    """Whether somebody is there to answer questions."""
    return sys.stdin.isatty()


def write(path: Path, text: str) -> None:
    """A file that only its owner may read; it is whole or not there. Raises StartError."""
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        unfinished.unlink(missing_ok=True)
        made = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(made, "w") as file:
            file.write(text)
        unfinished.replace(path)
    except OSError as error:
        raise StartError(f"Cannot write {path}: {error}") from None
