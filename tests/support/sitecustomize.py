"""Read by every Python that a test starts (tests/support/secrecy.py puts a copy on its path): of `threadloom`, what goes to standard error is also kept beside this file.

Nothing but the standard library, and little of it: each command of the suite pays for it.
"""

import io
import os
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

SINK = Path(__file__).with_name("standard-error")


class Both(io.RawIOBase):
    """Standard error, and the file."""

    def __init__(self) -> None:
        self._kept = os.open(SINK, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2

    def isatty(self) -> bool:
        return os.isatty(2)

    def write(self, data: "Buffer", /) -> int:
        with suppress(OSError):  # a process may be forbidden to write files
            os.write(self._kept, data)
        return os.write(2, data)


def is_ours(command: list[str]) -> bool:
    """Whether it is `threadloom …`, or `python -m threadloom…`."""
    return any(Path(word).name == "threadloom" for word in command[:2]) or any(
        option == "-m" and module.startswith("threadloom") for option, module in pairwise(command)
    )


if is_ours(sys.orig_argv):
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(Both(), 1),
        encoding=sys.stderr.encoding,
        errors="backslashreplace",
        line_buffering=True,
        write_through=True,
    )
