"""Servers as their users start them: processes of their own, found by the address they announce."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

KEY = "sk-compat"
WITHOUT_SANDBOX = {"THREADLOOM_CODE_INTERPRETER__RUNTIME": "none"}
"""So that no test starts containers unawares."""
COMMAND = Path(sys.executable).with_name("threadloom")
FAULT = re.compile(r'.*(Traceback|"level": "error")(.*\n){0,60}')
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/v1")


def environment(**variables: str) -> dict[str, str]:
    """Our own, without what would configure a server or a client, and with `variables`."""
    foreign = ("THREADLOOM_", "OPENAI_", "AZURE_OPENAI_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | variables


@contextmanager
def serving(directory: Path, settings: Mapping[str, str] | None = None) -> Generator[str]:
    """`threadloom serve` in `directory`, where a `config.yaml` may lie; gives the address of its API."""
    settings = {
        "THREADLOOM_AUTH__ADMIN_KEY": KEY,
        "THREADLOOM_DATA_DIR": str(directory / "data"),
        "THREADLOOM_SERVER__PORT": "0",
        "THREADLOOM_SERVER__POLL_AFTER": "50ms",
        **WITHOUT_SANDBOX,
        **(settings or {}),
    }
    with announced([str(COMMAND), "serve"], directory, environment(**settings)) as address:
        yield address


@contextmanager
def scripted_upstream(directory: Path) -> Generator[str]:
    """A provider that obeys the directives in messages; gives its address."""
    command = [sys.executable, "-m", "threadloom.testing.upstream"]
    with announced(command, directory, environment()) as address:
        yield address


@contextmanager
def announced(command: list[str], directory: Path, variables: Mapping[str, str]) -> Generator[str]:
    """Run until the block ends, then stop as an operator would; its log may hold no error."""
    process = subprocess.Popen(
        command,
        cwd=directory,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said: list[str] = []
    try:
        address = first_address(process.stdout, said)
        reader = threading.Thread(target=said.extend, args=(process.stdout,))
        reader.start()
        yield address
        process.send_signal(signal.SIGTERM)
        code = process.wait(20)
        reader.join()
        assert code in (0, -signal.SIGTERM), "".join(said)
        assert not (fault := FAULT.search("".join(said))), fault[0]
        assert KEY not in "".join(said)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def first_address(output: IO[str], said: list[str]) -> str:
    for line in output:
        said.append(line)
        if "listens on" in line or line.startswith("http"):
            found = ADDRESS.search(line)
            assert found is not None, line
            return found[0]
    raise AssertionError("It did not start:\n" + "".join(said))
