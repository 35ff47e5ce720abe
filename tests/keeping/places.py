"""Where servers keep their data: made empty, on either database, with files in a directory or in S3."""

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.support.postgres import Postgres, sqlalchemy_url
from tests.support.s3 import BUCKET, KEYS
from threadloom.cli import cli
from threadloom.db.engine import create_engine
from threadloom.db.migrate import upgrade


@dataclass
class Place:
    """Where a server keeps its data."""

    folder: Path
    url: str
    storage: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        return {"data_dir": self.folder, "storage": self.storage}

    @property
    def environment(self) -> dict[str, str]:
        s3 = self.storage.get("s3", {})
        return {
            "THREADLOOM_DATA_DIR": str(self.folder),
            "THREADLOOM_DATABASE__URL": self.url,
            **({"THREADLOOM_STORAGE__URL": self.storage["url"]} if s3 else {}),
            **{f"THREADLOOM_STORAGE__S3__{name.upper()}": value for name, value in s3.items()},
        }

    async def command(self, *arguments: str) -> str:
        """What a command prints on standard output. Raises StartError."""
        result = await asyncio.to_thread(
            CliRunner().invoke, cli, list(arguments), env=self.environment
        )
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout


class Places:
    """Makes them, each empty."""

    def __init__(self, root: Path, request: pytest.FixtureRequest) -> None:
        self._root = root
        self._request = request
        self._stack = ExitStack()
        self._made = 0

    def new(self, database: str, *, s3: str | None = None) -> Place:
        self._made += 1
        folder = self._root / str(self._made)
        folder.mkdir()
        storage = (
            {"url": f"s3://{BUCKET}/{self._made}", "s3": KEYS | {"endpoint": s3}} if s3 else {}
        )
        return Place(folder, self._url(database, folder), storage)

    def _url(self, database: str, folder: Path) -> str:
        if database == "sqlite":
            return f"sqlite:///{folder / 'threadloom.db'}"
        postgres: Postgres = self._request.getfixturevalue("postgres")
        return sqlalchemy_url(self._stack.enter_context(postgres.database()))

    def close(self) -> None:
        self._stack.close()


def migrated(place: Place) -> Place:
    engine = create_engine(place.url)
    upgrade(engine)
    engine.dispose()
    return place
