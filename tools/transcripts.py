"""Run the examples against real servers and write what they print into `docs/transcripts.md`.

python -m tools.transcripts
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.compat.install import install
from tests.support.process import COMMAND, KEY, environment, serving
from tools.fetch_smollm2 import fetch

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "transcripts.md"
NODE_SDK = "node-7.55.0"
PYTHON = (
    "python examples/poll.py",
    "python examples/stream.py",
    "python examples/function_tool.py",
)
PROGRAMS = (
    *PYTHON,
    "python examples/function_stream.py",
    "python examples/resume_stream.py",
    "python examples/ask_document.py",
    "node examples/poll.mjs",
    "node examples/stream.mjs",
    "node examples/function_tool.mjs",
    "node examples/function_stream.mjs",
    "sh examples/poll.sh",
    "sh examples/stream.sh",
    "sh examples/function_tool.sh",
)
OLD = (
    'threadloom assistants create --id asst_abc123 --model gpt-4o --name "Support" --instructions "Be brief."',
    "ASSISTANT_ID=asst_abc123 python examples/old_program.py",
    "ASSISTANT_ID=asst_abc123 node examples/old_program.mjs",
)
CODE = ("python examples/analyse_csv.py",)
SANDBOX = {"THREADLOOM_CODE_INTERPRETER__RUNTIME": "docker"}
FOLLOW_UP = 'python examples/follow_up.py {} "What is my name?"'
GGUF = """\
providers:
  - name: local
    gguf: {gguf}
aliases:
  "gpt-*": {model}
"""
CHANGING = re.compile(r"\b(asst|call|msg|run|step|thread)_[A-Za-z0-9]{24}\b")
TIME = re.compile(r'(_at":)\d+')
BLOCK = re.compile(r"```console\n\$ (.*)\n((?s:.*?))```\n")
TEXT = """\
# Transcripts

The programs in `examples/`, as they were run by `python -m tools.transcripts`, with the parts of ids and times that
change shown as `…`. They are ordinary OpenAI programs: the server's address is in `OPENAI_BASE_URL`, the key in
`OPENAI_API_KEY`. The warnings that newer SDKs print about the API are left out. The Node programs ran with openai-node
7.55.0 installed beside them.

## The embedded model

`threadloom serve` without any settings. `make test` runs these commands and compares what they print with this page.

{embedded}
The last command ran after the server had been stopped and started again: threads outlive it.

## A program of 2024

Its assistant was made at OpenAI, and its id is in the program's environment. The first command makes an assistant that has this id; [`threadloom import`](import.md) brings along what was saved. The programs
are as they were.

{old}
## The code interpreter

The same, on a machine with Docker's engine and the image that `make sandbox` builds. Still no key: the embedded model writes the Python.

{code}
## A small language model in the process

`pip install 'threadloom[local]'`, and this `config.yaml`. The model is SmolLM2 (135M), which is small enough to fetch in
a test and too small to be of use; it calls no function unless it is made to. `python -m tools.fetch_smollm2` prints its
path.

```yaml
{config}```

{local}
The last command ran after the server had been stopped and started again.
"""

Transcript = dict[str, str]


def main() -> None:
    """Write the page."""
    gguf = fetch()
    with tempfile.TemporaryDirectory() as scratch:
        plain, local = prepared(Path(scratch) / "plain"), prepared(Path(scratch) / "local")
        code = prepared(Path(scratch) / "code")
        (local / "config.yaml").write_text(GGUF.format(gguf=gguf, model=gguf.stem))
        page = TEXT.format(
            embedded=shown(session(plain, PROGRAMS)),
            old=shown(session_of_old(plain)),
            code=shown(session_with_code(code)),
            config=GGUF.format(gguf=gguf.name, model=gguf.stem),
            local=shown(session(local, PYTHON)),
        )
    PAGE.write_text(page)


def session(home: Path, programs: Sequence[str]) -> Transcript:
    """The programs against one server, then a follow-up question to the next."""
    with serving(home) as address:
        printed = {program: play(home, program, address) for program in programs}
    with serving(home) as address:
        follow_up = FOLLOW_UP.format(thread_in(printed[programs[0]]))
        printed[follow_up] = play(home, follow_up, address)
    return {masked(command): masked(output) for command, output in printed.items()}


def session_of_old(home: Path) -> Transcript:
    """Programs that know the id of an assistant."""
    with serving(home) as address:
        return {command: masked(play(home, command, address)) for command in OLD}


def session_with_code(home: Path) -> Transcript:
    """The programs that need a sandbox."""
    with serving(home, SANDBOX) as address:
        return {program: masked(play(home, program, address)) for program in CODE}


def prepared(home: Path) -> Path:
    """A place where the commands work as they are shown."""
    shutil.copytree(ROOT / "examples", home / "examples")
    node = install(NODE_SDK)
    (home / "node_modules").symlink_to(ROOT / ".venv-compat" / NODE_SDK / "node_modules")
    (home / "bin").mkdir()
    (home / "bin" / "node").symlink_to(node)
    (home / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" -W ignore "$@"\n')
    (home / "bin" / "python").chmod(0o755)
    (home / "bin" / "threadloom").symlink_to(COMMAND)
    return home


def play(home: Path, command: str, address: str) -> str:
    """What a command prints; it has to succeed."""
    data = str(home / "data")
    variables = environment(OPENAI_BASE_URL=address, OPENAI_API_KEY=KEY, THREADLOOM_DATA_DIR=data)
    variables["PATH"] = f"{home / 'bin'}{os.pathsep}{variables['PATH']}"
    done = subprocess.run(
        command, shell=True, cwd=home, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def thread_in(output: str) -> str:
    found = re.search(r"thread_\w+", output)
    assert found is not None, output
    return found[0]


def masked(text: str) -> str:
    return TIME.sub(r"\1…", CHANGING.sub(r"\1_…", text))


def shown(transcript: Mapping[str, str]) -> str:
    return "\n".join(
        f"```console\n$ {command}\n{output}```\n" for command, output in transcript.items()
    )


def documented(heading: str) -> Transcript:
    """The commands and their output under a heading of the page."""
    _, _, section = PAGE.read_text().partition(f"\n## {heading}\n")
    return dict(BLOCK.findall(section.partition("\n## ")[0]))


if __name__ == "__main__":
    main()
