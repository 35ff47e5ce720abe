"""What the kernel refuses to a parser that a document has taken over."""

import subprocess
import sys
from pathlib import Path

import pytest

ATTEMPT = """
import os, socket, sys
from pathlib import Path
from threadloom.retrieval.parsing.confinement import confine
confine(64 * 1024**2)
{attempt}
"""


@pytest.mark.parametrize(
    ("attempt", "error"),
    [
        ("socket.socket()", "PermissionError"),
        ("socket.socketpair()", "PermissionError"),
        ("os.execv('/bin/true', ['true'])", "PermissionError"),
        ("os.fork()", "PermissionError"),
        ("os.kill(os.getppid(), 0)", "PermissionError"),
        ("Path('{folder}/new').touch()", "PermissionError"),
        ("Path('{folder}/old').open('w')", "PermissionError"),
        ("Path('{folder}/old').open('a')", "PermissionError"),
        ("Path('{folder}/old').unlink()", "PermissionError"),
        ("Path('{folder}/old').rename('{folder}/new')", "PermissionError"),
        ("os.truncate('{folder}/old', 0)", "PermissionError"),
        ("bytearray(300 * 1024**2)", "MemoryError"),
        ("[open('{folder}/old') for _ in range(100)]", "Too many open files"),
    ],
)
def test_a_parser_may_not(attempt: str, error: str, tmp_path: Path) -> None:
    code = ATTEMPT.format(attempt=attempt.format(folder=tmp_path))
    (tmp_path / "old").write_text("kept")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert error in done.stderr
    assert (tmp_path / "old").read_text() == "kept"
    assert not (tmp_path / "new").exists()


def test_a_parser_may_read_and_have_threads() -> None:
    attempt = "import threading; t = threading.Thread(target=print, args=('on',)); t.start(); t.join(); open('/dev/null')"
    code = ATTEMPT.format(attempt=attempt)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "on\n")


def test_the_process_that_asks_loads_no_library_that_reads_documents() -> None:
    readers = ["pypdfium2", "pypdf", "lxml", "openpyxl", "charset_normalizer", "puremagic"]
    code = (
        f"import sys, threadloom.retrieval.parsing.parsers; print(sys.modules.keys() & {readers})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
