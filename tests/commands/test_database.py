"""Commands where there is no database: most are in the wrong directory, and a first one may begin."""

import asyncio
import stat
from pathlib import Path

import pytest

from tests.commands.running import Commands

NONE_MADE = [
    ("purge", "--older-than", "1d", "--what", "threads", "--yes"),
    ("export", "out"),
    ("usage",),
    ("reindex",),
    ("keys", "list"),
    ("keys", "revoke", "key_1"),
    ("webhooks", "list"),
    ("webhooks", "delete", "whe_1"),
    ("limits", "show", "--project", "default"),
    ("limits", "set", "--project", "default", "--tokens-per-minute", "1"),
    ("assistants", "list"),
    ("threads", "list"),
    ("runs", "list"),
    ("files", "list"),
    ("stores", "list"),
    ("stores", "search", "vs_1", "What?"),
    ("db", "orphans"),
    ("db", "compact"),
]
FIRST = [
    ("keys", "create"),
    ("assistants", "create", "--model", "m"),
    ("webhooks", "create", "https://example.com/hook"),
    ("import", "saved.json"),
    ("db", "upgrade"),
]


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """The command line in a directory where no server ever was."""
    monkeypatch.chdir(tmp_path)
    return Commands({"THREADLOOM_CODE_INTERPRETER__RUNTIME": "none"})


@pytest.mark.parametrize("command", NONE_MADE, ids=lambda command: "-".join(command[:2]))
async def test_what_needs_a_database_makes_none(
    command: tuple[str, ...], nowhere: Commands, tmp_path: Path
) -> None:
    said = await nowhere.refused(*command)
    assert said.startswith(f"There is no database at {tmp_path}/.threadloom/threadloom.db.")
    assert not await asyncio.to_thread(lambda: [*tmp_path.iterdir()])


@pytest.mark.parametrize("command", FIRST, ids=lambda command: "-".join(command[:2]))
async def test_what_makes_a_database_says_so_once_and_shows_it_to_no_other_user(
    command: tuple[str, ...], nowhere: Commands, tmp_path: Path
) -> None:
    (tmp_path / "saved.json").write_text("[]")
    made = await nowhere.result(*command)
    path = tmp_path / ".threadloom" / "threadloom.db"
    assert made.exit_code == 0, made.output
    assert made.stderr.splitlines()[0] == f"Made a new database at {path}."
    assert stat.S_IMODE(path.parent.stat().st_mode) == stat.S_IRWXU
    assert "new database" not in (await nowhere.result(*command)).output
