"""The command line, run as people run it: what it prints, and how it refuses to start."""

import json
import re
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx2
import pytest

from tests.support.process import COMMAND, WITHOUT_SANDBOX, environment
from threadloom import __version__

FIRST_KEY = re.compile(r"Your first API key, shown only now: (sk-\S{43})$", flags=re.MULTILINE)
ADDRESS = re.compile(r"listens on (http://\S+)")
HEADLESS = {"THREADLOOM_AUTH__ADMIN_KEY": "sk-headless"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An empty directory to start in."""
    return tmp_path


def run(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=directory,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def refused(directory: Path, *arguments: str, **variables: str) -> str:
    """What a start that must fail says: a sentence, not a traceback."""
    ended = run(directory, *arguments, **variables)
    assert ended.returncode == 1, ended
    assert "Traceback" not in ended.stderr, ended.stderr
    assert not ended.stdout
    return ended.stderr.strip()


@dataclass
class Started:
    """A server that was started by hand."""

    stderr: IO[str]
    said: list[str] = field(default_factory=list[str])
    address: str = ""

    @property
    def output(self) -> str:
        return "".join(self.said)

    def next_with(self, text: str) -> str:
        """The next line that has this text; the test's time limit ends this."""
        for line in self.stderr:
            self.said.append(line)
            if text in line:
                return line
        raise AssertionError(self.output)

    def get(self, path: str, key: str) -> httpx2.Response:
        return httpx2.get(self.address + path, headers={"Authorization": f"Bearer {key}"})

    def post(self, path: str, key: str, body: object) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx2.post(self.address + path, headers=headers, json=body)

    def send(self, path: str, key: str, content: bytes) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {key}"}
        form = {"purpose": "assistants"}
        files = {"file": ("a.txt", content)}
        return httpx2.post(self.address + path, headers=headers, data=form, files=files)


@contextmanager
def started(directory: Path, *arguments: str, **variables: str) -> Generator[Started]:
    """`threadloom serve` until it listens; stopped as an operator would, after which it has exited with 0."""
    process = subprocess.Popen(
        [COMMAND, "serve", *arguments],
        cwd=directory,
        env=environment(**{"THREADLOOM_SERVER__PORT": "0"} | WITHOUT_SANDBOX | variables),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    server = Started(process.stderr)
    try:
        for line in process.stderr:
            server.said.append(line)
            if found := ADDRESS.search(line):
                server.address = found[1]
                break
        assert server.address, server.output
        yield server
        process.send_signal(signal.SIGTERM)
        server.said.append(process.stderr.read())
        assert process.wait(20) in (0, -signal.SIGTERM), server.output
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def worker_output(directory: Path) -> str:
    """What `threadloom worker` says until it works; stopped as an operator would."""
    process = subprocess.Popen(
        [COMMAND, "worker"],
        cwd=directory,
        env=environment(**WITHOUT_SANDBOX),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        said = ""
        for line in process.stderr:
            said += line
            if "Threadloom works." in line:
                break
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        return said
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_the_first_start_shows_a_key_and_no_later_one_does(directory: Path) -> None:
    with started(directory) as server:
        (key,) = FIRST_KEY.findall(server.output)
        assert server.get("/assistants", key).status_code == 200
    with started(directory) as server:
        assert server.get("/assistants", key).status_code == 200
    assert "sk-" not in server.output


def test_a_headless_key_is_used_and_none_is_shown(directory: Path) -> None:
    with started(directory, **HEADLESS) as server:
        assert server.get("/assistants", "sk-headless").status_code == 200
        assert server.get("/assistants", "sk-other").status_code == 401
    assert "sk-" not in server.output


def test_a_server_without_an_engine_says_so_and_works(directory: Path) -> None:
    engine = {
        "THREADLOOM_CODE_INTERPRETER__RUNTIME": "docker",
        "DOCKER_HOST": f"unix://{directory}/none.sock",
    }
    with started(directory, **HEADLESS | engine) as server:
        assert server.get("/assistants", "sk-headless").status_code == 200
        said = server.next_with("code cannot be run")
    assert f"unix://{directory}/none.sock" in said
    assert server.output.count("code cannot be run") == 1
    assert "Traceback" not in server.output


def test_keys_are_made_listed_and_revoked(directory: Path) -> None:
    made = run(directory, "keys", "create", "--name", "laptop", "--project", "team")
    key = made.stdout.strip()
    assert re.fullmatch(r"sk-\S{43}", key)
    listed = run(directory, "keys", "list", COLUMNS="200").stdout
    (key_id,) = re.findall(r"key_\w{24}", listed)
    assert all(part in listed for part in ("team", "laptop", key[-4:], "works"))
    assert key not in listed
    with started(directory) as server:
        assert not FIRST_KEY.search(server.output)
        assert server.get("/assistants", key).status_code == 200
        assert run(directory, "keys", "revoke", key_id).returncode == 0
        until_refused(server, key)
    assert "revoked" in run(directory, "keys", "list", COLUMNS="200").stdout
    (told,) = json.loads(run(directory, "keys", "list", "--json").stdout)
    assert (told["id"], told["project"], told["revoked_at"] is None) == (key_id, "team", False)


def until_refused(server: Started, key: str) -> None:
    """Ask until the key is dead; the test's time limit ends this."""
    while server.get("/assistants", key).status_code != 401:
        pass


def test_an_unknown_key_cannot_be_revoked(directory: Path) -> None:
    assert run(directory, "db", "upgrade").returncode == 0
    assert refused(directory, "keys", "revoke", "key_x") == "There is no key with id key_x."


def test_the_version_is_printed(directory: Path) -> None:
    assert run(directory, "version").stdout.strip() == __version__


def test_a_misspelled_variable_stops_the_start(directory: Path) -> None:
    said = refused(directory, "serve", THREADLOOM_SERVER__PROT="1")
    assert said == (
        "Unknown setting THREADLOOM_SERVER__PROT. Did you mean THREADLOOM_SERVER__PORT?"
    )


def test_a_bad_value_stops_the_start(directory: Path) -> None:
    said = refused(directory, "serve", THREADLOOM_SERVER__PORT="many")
    assert said.startswith("Setting server.port: Input should be a valid integer")
    assert "aliases" in refused(directory, "serve", THREADLOOM_ALIASES="gpt-4o=qwen").lower()
    assert "runs.lease" in refused(directory, "serve", THREADLOOM_RUNS__LEASE="soon")


def test_a_bad_settings_file_stops_the_start(directory: Path) -> None:
    file = directory / "config.yaml"
    file.write_text("server: [")
    assert "Cannot read the settings file config.yaml" in refused(directory, "serve")
    file.write_text("- 1")
    assert (
        refused(directory, "serve") == "The settings file config.yaml must hold a mapping of names."
    )
    file.write_text("server: {prot: 1}")
    assert refused(directory, "serve") == "Setting server.prot: unknown. Did you mean port?"
    file.write_bytes(b"\xff\xfe\x00")
    assert "Cannot read the settings file" in refused(directory, "serve")
    missing = refused(directory, "serve", "--config", "nowhere.yaml")
    assert missing.startswith("Cannot read the settings file nowhere.yaml")


def test_a_database_of_a_newer_program_is_left_alone(directory: Path) -> None:
    assert run(directory, "db", "upgrade").returncode == 0
    with sqlite3.connect(directory / ".threadloom" / "threadloom.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    assert refused(directory, "serve", THREADLOOM_SERVER__PORT="0") == (
        "The database is newer than this program (its schema is 9999): "
        "upgrade Threadloom, or restore a backup from before the upgrade."
    )


def test_a_port_in_use_is_told(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(directory, "serve", "--port", str(port))
    assert f"Cannot listen on 127.0.0.1:{port}" in said
    with started(directory) as server:
        assert FIRST_KEY.search(server.output), "the failed start has used up the first key"


def test_an_address_of_another_machine_is_told(directory: Path) -> None:
    said = refused(directory, "serve", "--host", "203.0.113.7", "--port", "1", **HEADLESS)
    assert "Cannot listen on 203.0.113.7:1" in said


def test_a_data_directory_that_is_a_file_is_told(directory: Path) -> None:
    (directory / "file").touch()
    said = refused(directory, "serve", "--data-dir", "file")
    assert said.startswith("Cannot use the data directory file")


def test_a_database_that_does_not_answer_is_told(directory: Path) -> None:
    url = "postgresql://127.0.0.1:1/none?connect_timeout=1"
    said = refused(directory, "serve", THREADLOOM_DATABASE__URL=url)
    assert "The database does not answer" in said


def test_a_database_of_another_kind_is_told(directory: Path) -> None:
    for url in ("mysql://localhost/x", "not a url", "http://localhost/x"):
        said = refused(directory, "serve", THREADLOOM_DATABASE__URL=url)
        assert said.startswith("Setting database.url: ")


def test_flags_say_where_to_listen_and_where_to_keep_data(directory: Path) -> None:
    (directory / "own.yaml").write_text("server: {poll_after: 123ms, port: 1, host: 203.0.113.7}")
    flags = ("--host", "localhost", "--port", "0", "--data-dir", "kept", "--config", "own.yaml")
    with started(directory, *flags, "--no-worker", **HEADLESS) as server:
        assert server.address.startswith("http://localhost:")
        made = server.post("/assistants", "sk-headless", {"model": "m", "instructions": "Hi"})
        body = {"assistant_id": made.json()["id"]}
        run_ = server.post("/threads/runs", "sk-headless", body).json()
        path = f"/threads/{run_['thread_id']}/runs/{run_['id']}"
        read = server.get(path, "sk-headless")
        assert read.headers["openai-poll-after-ms"] == "123"
        assert read.json()["status"] == "queued"
    assert (directory / "kept" / "threadloom.db").exists()
    assert not (directory / ".threadloom").exists()


def test_a_worker_beside_the_server_drives_runs(directory: Path) -> None:
    with started(directory, **HEADLESS) as server:
        made = server.post("/assistants", "sk-headless", {"model": "m", "instructions": "Hi"})
        body = {"assistant_id": made.json()["id"], "stream": True}
        streamed = server.post("/threads/runs", "sk-headless", body)
        assert streamed.text.endswith("event: done\ndata: [DONE]\n\n")
        assert "event: thread.run.completed\n" in streamed.text


def test_a_fault_is_logged_without_what_it_was_about(directory: Path) -> None:
    with started(directory, **HEADLESS) as server:
        with sqlite3.connect(directory / ".threadloom" / "threadloom.db") as connection:
            connection.execute("ALTER TABLE messages RENAME TO elsewhere")
        connection.close()
        body = {"messages": [{"role": "user", "content": "a private text"}]}
        broken = server.post("/threads", "sk-headless", body)
    assert broken.status_code == 500
    assert broken.json()["error"]["type"] == "server_error"
    assert broken.headers["x-request-id"] in broken.json()["error"]["message"]
    assert broken.headers["x-request-id"] in server.output
    assert "private text" not in server.output + broken.text
    assert "sk-headless" not in server.output


def test_a_start_tells_which_files_another_model_embedded(directory: Path) -> None:
    flags = ("--no-worker",)
    with started(directory, *flags, **HEADLESS) as server:
        assert "reindex" not in server.output
        file = server.send("/files", "sk-headless", b"Bees dance.").json()["id"]
        server.post("/vector_stores", "sk-headless", {"file_ids": [file]})
    with sqlite3.connect(directory / ".threadloom" / "threadloom.db") as connection:
        connection.execute(
            "UPDATE vector_store_files SET status = 'completed', embedding_model = 'old'"
        )
    connection.close()
    with started(directory, *flags, **HEADLESS) as server:
        told = '"event": "files were embedded by another model: run `threadloom reindex`"'

        assert server.output.count(told) == 1
        assert '"files": 1' in server.output
    assert worker_output(directory).count(told) == 1
