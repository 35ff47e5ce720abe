"""`threadloom config`, `init` and `version`: what people set, and see of it."""

import json
import os
import pty
import re
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema_rs import Draft202012Validator

from tests.operate.arena import run
from tests.support.process import COMMAND, environment
from threadloom import __version__
from threadloom.config import Settings, load_settings
from threadloom.errors import StartError

SECRETS = {
    "THREADLOOM_DATABASE__URL": "postgresql://me:hunter2@localhost/x",
    "THREADLOOM_AUTH__ADMIN_KEY": "sk-hunter3",
    "THREADLOOM_UPSTREAM__BASE_URL": "http://user:hunter4@127.0.0.1:1/v1",
    "THREADLOOM_UPSTREAM__API_KEY": "hunter5",
}


async def test_show_tells_what_is_set_and_where(tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    config.write_text(
        "runs: {lease: 20s}\nproviders: [{name: p, base_url: http://x/v1, api_key: hunter6}]"
    )
    arguments = ("--config", str(config), "--data-dir", str(tmp_path))
    done = await run(SECRETS, "config", "show", "--json", *arguments)
    found = {one["name"]: (one["value"], one["origin"]) for one in json.loads(done.output)}
    assert found["runs.lease"] == (20.0, str(config))
    assert found["data_dir"] == (str(tmp_path), "option")
    assert found["database.url"] == ("postgresql://me:***@localhost/x", "environment")
    assert found["server.port"] == (8484, "default")
    assert found["auth.admin_key"] == ("**********", "environment")
    table = (await run(SECRETS, "config", "show", "--changed", *arguments)).output
    assert re.search(r"^runs\.lease +20\.0 +", table, re.MULTILINE)
    assert "server.port" not in table
    assert "hunter" not in done.output + table


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:hun/t?er@db/x", "postgresql://me:***@db/x"),
        ("postgresql://me:hunt@er@db/x", "postgresql://me:***@db/x"),
        (
            "postgresql://db/x?user=me&password=hunter&sslmode=require",
            "postgresql://db/x?user=me&password=***&sslmode=require",
        ),
        ("postgresql://db/x?sslpassword=hunter", "postgresql://db/x?sslpassword=***"),
        ("postgresql://db:5432/x?application_name=a", "postgresql://db:5432/x?application_name=a"),
    ],
)
async def test_passwords_in_addresses_are_masked(url: str, shown: str) -> None:
    done = await run({"THREADLOOM_DATABASE__URL": url}, "config", "show", "--json")
    found = {one["name"]: one["value"] for one in json.loads(done.output)}
    assert found["database.url"] == shown


async def test_the_example_is_empty_and_all_of_it_is_the_defaults(tmp_path: Path) -> None:
    example = (await run({}, "config", "example")).output
    assert yaml.safe_load(example) is None
    uncommented = re.sub(r"^(\s*)#(?! )", r"\1", example, flags=re.MULTILINE)
    config = tmp_path / "all.yaml"
    config.write_text(uncommented)
    settings = load_settings({}, config=config)
    assert settings.model_dump() == Settings().model_dump()
    assert set(yaml.safe_load(uncommented)) == set(Settings.model_fields)


async def test_the_schema_takes_what_the_program_takes() -> None:
    schema: dict[str, Any] = json.loads((await run({}, "config", "schema")).output)
    check = Draft202012Validator(schema)
    assert check.is_valid({"runs": {"lease": "15s", "concurrency": 3}, "aliases": {"a": "b"}})
    assert check.is_valid({"runs": {"lease": 15}})
    for wrong in (
        {"runs": {"leese": "15s"}},
        {"runs": {"lease": "soon"}},
        {"server": {"port": -1}},
    ):
        assert not check.is_valid(wrong), wrong


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"THREADLOOM_RUNS__LEESE": "1s"}, "Did you mean THREADLOOM_RUNS__LEASE?"),
        ({"THREADLOOM_UPSTREAM__BASE_URL": "localhost"}, "must begin with http"),
        ({"THREADLOOM_EMBEDDINGS__BASE_URL": "http://x/v1"}, "Setting embeddings.model"),
        ({"THREADLOOM_FILE_SEARCH__INDEX": "pgvector"}, "needs PostgreSQL"),
    ],
)
async def test_check_says_what_is_wrong(variables: dict[str, str], sentence: str) -> None:
    done = await run(variables, "config", "check")
    assert done.code == 1
    assert isinstance(done.exception, StartError)
    assert sentence in str(done.exception)


async def test_check_says_that_all_is_well() -> None:
    done = await run({}, "config", "check")
    assert (done.code, done.output.strip()) == (0, "The settings are in order.")


async def test_init_writes_secrets_that_the_program_reads(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    given = {"THREADLOOM_UPSTREAM__API_KEY": "a $pecial #key"}
    arguments = ("init", "--file", str(file), "--base-url", "http://127.0.0.1:1/v1")
    done = await run(given, *arguments)
    assert (done.code, done.output) == (0, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    settings = load_settings({}, env_file=file)
    assert settings.auth.admin_key is not None
    assert settings.upstream.api_key is not None
    assert re.fullmatch(r"sk-\S{43}", settings.auth.admin_key.get_secret_value())
    assert settings.upstream.api_key.get_secret_value() == "a $pecial #key"
    assert settings.upstream.base_url == "http://127.0.0.1:1/v1"
    assert re.search(r"^POSTGRES_PASSWORD=[0-9a-f]{48}$", file.read_text(), re.MULTILINE)


async def test_init_leaves_a_file_alone_unless_it_is_forced(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("MINE=1\n")
    done = await run({}, "init", "--file", str(file))
    assert done.code == 1
    assert "already" in str(done.exception)
    assert file.read_text() == "MINE=1\n"
    kept = {"POSTGRES_PASSWORD": "known", "THREADLOOM_AUTH__ADMIN_KEY": "sk-known"}
    assert (await run(kept, "init", "--force", "--file", str(file))).code == 0
    assert "POSTGRES_PASSWORD=known\n" in file.read_text()
    assert "THREADLOOM_AUTH__ADMIN_KEY=sk-known\n" in file.read_text()
    assert "# THREADLOOM_UPSTREAM__API_KEY=\n" in file.read_text()
    assert names(tmp_path) == [".env"]


async def test_init_keeps_the_secrets_of_the_file_it_writes_anew(tmp_path: Path) -> None:
    file = tmp_path / "production.env"
    assert (await run({}, "init", "--file", str(file), "--base-url", "http://x/v1")).code == 0
    first = file.read_text()
    assert (await run({}, "init", "--force", "--file", str(file))).code == 0
    assert file.read_text() == first


def names(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir()]


def test_init_again_keeps_the_secrets_of_its_directory(tmp_path: Path) -> None:
    first = written_in(tmp_path)
    assert written_in(tmp_path, "--force") == first


def written_in(folder: Path, *arguments: str) -> str:
    subprocess.run(
        [COMMAND, "init", *arguments],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        check=True,
        capture_output=True,
    )
    return (folder / ".env").read_text()


async def test_the_version_is_a_document_too() -> None:
    assert json.loads((await run({}, "version", "--json")).output)["version"] == __version__
    assert (await run({}, "version")).output == f"{__version__}\n"


def test_init_asks_who_sits_at_a_terminal_and_does_not_show_the_key(tmp_path: Path) -> None:
    keyboard, terminal = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, "init"],
        cwd=tmp_path,
        env=environment(),
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # else the key would be read from the terminal of whoever runs the tests
    )
    assert process.stdout is not None
    os.write(keyboard, b"http://127.0.0.1:1/v1\n")
    shown = b""
    while b"Its key (empty: none)" not in shown:
        shown += os.read(process.stdout.fileno(), 4096)
    while process.poll() is None:  # what is typed before it listens is thrown away
        os.write(keyboard, b"sk-typed\n")
        time.sleep(0.1)
    shown += process.stdout.read()
    assert process.returncode == 0
    for one in (keyboard, terminal):
        os.close(one)
    process.stdout.close()
    written = (tmp_path / ".env").read_text()
    assert "THREADLOOM_UPSTREAM__BASE_URL=http://127.0.0.1:1/v1\n" in written
    assert "THREADLOOM_UPSTREAM__API_KEY=sk-typed\n" in written
    assert b"sk-typed" not in shown
