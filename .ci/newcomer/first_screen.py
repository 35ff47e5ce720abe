"""The README's first screen as it stands there, done by somebody new: from `git clone` to the first answer, and on to the SDK.

Runs inside the container that .ci/first_screen.sh makes, with /repository to clone from.
"""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE = Path("/root/threadloom")
PLACEHOLDER = "sk-…"


def main() -> None:
    watch = Watch()
    subprocess.run(["git", "clone", "--quiet", "/repository", str(CLONE)], check=True)
    watch.lap("clone")
    screen = (CLONE / "README.md").read_text().partition("\n## ")[0]
    start, ask = re.findall(r"```sh\n(.*?)```", screen, re.DOTALL)
    with served(start) as key:
        watch.lap("install and start")
        told = subprocess.check_output(["sh", "-euc", ask.replace(PLACEHOLDER, key)], cwd=CLONE)
        watch.lap("first answer")
        print(f"clone to first answer: {watch.total:.1f} s")
        (message,) = json.loads(told)["data"]
        (text,) = (part["text"]["value"] for part in message["content"])
        assert message["role"] == "assistant", told
        assert "My name is Ada." in text, told
        print(f"The answer: {text!r}")
        ask_with_the_sdk(screen, key)


class Watch:
    """Says how long each part took."""

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()

    @property
    def total(self) -> float:
        return self._last - self._began

    def lap(self, name: str) -> None:
        now = time.monotonic()
        print(f"{name}: {now - self._last:.1f} s", flush=True)
        self._last = now


@contextmanager
def served(command: str) -> Iterator[str]:
    """A server that the block starts in a terminal of its own; gives the key that it prints."""
    process = subprocess.Popen(
        ["sh", "-euc", command],
        cwd=CLONE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = ""
    try:
        for line in process.stdout:
            said += line
            if "listens on http://127.0.0.1:8484/v1" in line:
                break
        found = re.search(r"sk-\S+", said)
        assert found, f"It did not start, or gave no key:\n{said}"
        yield found[0]
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def ask_with_the_sdk(screen: str, key: str) -> None:
    """The lines of Python, in an environment that has nothing but the SDK."""
    (lines,) = re.findall(r"```python\n(.*?)```", screen, re.DOTALL)
    python = CLONE.parent / "program" / "bin" / "python"
    subprocess.run(["python3", "-m", "venv", str(python.parents[1])], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "openai"], check=True)
    program = lines.replace(PLACEHOLDER, key) + "print(client.beta.assistants.list().data[0].id)\n"
    said = subprocess.check_output([str(python), "-c", program], text=True)
    assert said.startswith("asst_"), said
    print(f"The SDK sees the assistant {said.strip()}.")


if __name__ == "__main__":
    main()
