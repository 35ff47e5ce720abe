"""Settings: who wins, how durations are written, what is refused."""

import os
from pathlib import Path
from typing import Any

import pytest

from threadloom.config import (
    Settings,
    import_key,
    load_settings,
    seconds,
    suggestion,
    variables,
)
from threadloom.errors import StartError


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, and no variable of ours."""
    for name in [name for name in os.environ if name.upper().startswith("THREADLOOM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(**flags: Any) -> Settings:
    return load_settings(flags)


def test_the_order_is_flag_environment_env_file_yaml_default(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load().server.port == 8484
    (directory / "config.yaml").write_text("server: {port: 1, host: yaml}")
    assert load().server.port == 1
    (directory / ".env").write_text("THREADLOOM_SERVER__PORT=2\nOTHER=x\n")
    assert load().server.port == 2
    monkeypatch.setenv("THREADLOOM_SERVER__PORT", "3")
    assert load().server.port == 3
    settings = load(server={"port": 4})
    assert (settings.server.port, settings.server.host) == (4, "yaml")


def test_the_key_to_import_with_may_be_in_the_env_file(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / ".env").write_text("THREADLOOM_IMPORT__API_KEY=sk-file\n")
    load()
    assert import_key(None).get_secret_value() == "sk-file"
    monkeypatch.setenv("THREADLOOM_IMPORT__API_KEY", "sk-environment")
    assert import_key(None).get_secret_value() == "sk-environment"


def test_an_empty_settings_file_sets_nothing(directory: Path) -> None:
    (directory / "config.yaml").write_text("# nothing\n")
    assert load().model_dump() == Settings().model_dump()


def test_another_settings_file_takes_the_place_of_the_usual_one(directory: Path) -> None:
    (directory / "config.yaml").write_text("server: {port: 1}")
    (directory / "own.yaml").write_text("server: {host: own}")
    settings = load_settings({}, config=directory / "own.yaml")
    assert (settings.server.port, settings.server.host) == (8484, "own")


def test_the_examples_of_the_design_are_read(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THREADLOOM_ALIASES", '{"gpt-4o": "qwen3:14b", "gpt-*": "llama3.3"}')
    monkeypatch.setenv("THREADLOOM_RUNS__EXPIRES_AFTER", "10m")
    monkeypatch.setenv("THREADLOOM_RUNS__CONCURRENCY", "3")
    monkeypatch.setenv("THREADLOOM_RUNS__LEASE", "15s")
    monkeypatch.setenv("THREADLOOM_UPSTREAM__BASE_URL", "http://localhost:1/v1")
    monkeypatch.setenv("THREADLOOM_CODE_INTERPRETER__RUNTIME", "none")
    monkeypatch.setenv("THREADLOOM_DATA_DIR", "kept")
    settings = load()
    assert settings.aliases == {"gpt-4o": "qwen3:14b", "gpt-*": "llama3.3"}
    assert (settings.runs.expires_after, settings.runs.lease) == (600.0, 15.0)
    assert (settings.runs.concurrency, settings.data_dir) == (3, Path("kept"))


DURATIONS = [
    ("500ms", 0.5),
    ("15s", 15.0),
    ("1.5 m", 90.0),
    (" 10m ", 600.0),
    ("2h", 7200.0),
    ("7d", 604800.0),
]


@pytest.mark.parametrize(("written", "meant"), DURATIONS)
def test_durations_have_units(written: str, meant: float) -> None:
    assert seconds(written) == meant


def test_a_bare_number_is_a_number_of_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADLOOM_RUNS__LEASE", "7")
    assert load().runs.lease == 7.0


@pytest.mark.parametrize("written", ["0", "-1s", "soon", "1w", "", "1.2.3s", "..s", "nan", "inf"])
def test_other_durations_are_refused(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADLOOM_RUNS__LEASE", written)
    with pytest.raises(StartError, match=r"^Setting runs\.lease: "):
        load()


def test_an_unknown_variable_is_named_with_the_nearest_one(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("threadloom_databse__url", "x")
    with pytest.raises(StartError, match=r"Did you mean THREADLOOM_DATABASE__URL\?"):
        load()
    monkeypatch.delenv("threadloom_databse__url")
    (directory / ".env").write_text("THREADLOOM_ZZZ=1")
    with pytest.raises(StartError, match=r"^Unknown setting THREADLOOM_ZZZ\."):
        load()


YAML_FAULTS = [
    ("servr: {}", "Setting servr: unknown. Did you mean server?"),
    ("server: {zzz: 1}", "Setting server.zzz: unknown."),
    (
        "providers: [{name: a, base_ur: b}]",
        "Setting providers.0.base_ur: unknown. Did you mean base_url?",
    ),
    (
        "providers: [{name: a, models: {m: {context_windo: 1}}}]",
        "Setting providers.0.models.m.context_windo: unknown. Did you mean context_window?",
    ),
    ("providers: [{}]", "Setting providers.0.name: Field required."),
    ("1: 2", "The settings file config.yaml must hold a mapping of names."),
]


@pytest.mark.parametrize(("document", "said"), YAML_FAULTS)
def test_faults_in_yaml_are_told_by_their_path(directory: Path, document: str, said: str) -> None:
    (directory / "config.yaml").write_text(document)
    with pytest.raises(StartError) as refused:
        load()
    assert str(refused.value) == said


def test_secrets_do_not_show_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADLOOM_AUTH__ADMIN_KEY", "sk-secret")
    monkeypatch.setenv("THREADLOOM_UPSTREAM__API_KEY", "sk-secret")
    assert "sk-secret" not in repr(load())


URLS = [
    ("postgresql://h/d", "postgresql+psycopg://h/d"),
    ("postgres://h/d", "postgresql+psycopg://h/d"),
    ("postgresql+psycopg://h/d", "postgresql+psycopg://h/d"),
    ("sqlite:///x.db", "sqlite:///x.db"),
]


@pytest.mark.parametrize(("given", "used"), URLS)
def test_database_addresses_name_their_driver(
    given: str, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THREADLOOM_DATABASE__URL", given)
    assert load().database_url == used


def test_without_an_address_the_database_is_a_file_in_the_data_directory(directory: Path) -> None:
    assert load().database_url == f"sqlite:///{directory}/.threadloom/threadloom.db"


def test_every_variable_can_be_misspelled() -> None:
    known = list(variables())
    assert all(suggestion(name[:-1], known) for name in known)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().server.port = 1  # pyright: ignore[reportAttributeAccessIssue]
