"""`.env.example` tells of every variable, of the program's and of the compose file's."""

import re
from pathlib import Path

import pytest

from threadloom.config import Settings, load_settings, variables
from tools.configuration import example

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / ".env.example").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()


def test_it_is_what_the_settings_say() -> None:
    assert example() == EXAMPLE, "Run `python -m tools.configuration`."


def test_every_setting_is_in_it() -> None:
    assert set(variables()) <= set(re.findall(r"^# (THREADLOOM_\w+)=", EXAMPLE, re.MULTILINE))


def test_every_variable_of_the_compose_file_is_in_it() -> None:
    named = re.findall(r"(?<!\$)\$\{(\w+)", COMPOSE)
    assert set(named) <= set(re.findall(r"^(?:# )?(\w+)=", EXAMPLE, re.MULTILINE))


def test_the_values_in_it_are_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in variables():
        monkeypatch.delenv(name, raising=False)
    settings = EXAMPLE[EXAMPLE.index("# --- All settings") :]
    lines = re.findall(r"^# (THREADLOOM_\w+=.+)", settings, re.MULTILINE)
    (tmp_path / ".env").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    assert len(lines) > 50
    assert load_settings({}).model_dump() == Settings().model_dump()
