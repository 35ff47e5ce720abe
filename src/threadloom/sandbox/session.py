"""The port: what a run needs of a sandbox. Implementations are chosen in `opening.py`; a double is in `threadloom.testing`."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

DATA = "/mnt/data"
"""Where code finds its files, and leaves them."""
MediaType = Literal["image/png", "image/jpeg"]
Ending = Literal["ok", "error", "interrupted", "timeout", "out_of_memory", "died"]
"""`error`: the code raised, and printed its traceback. `died`: its process ended, or was killed by itself or by the kernel."""


@dataclass(frozen=True)
class Logs:
    """Text as it was printed: standard output and error, the value of the last expression, tracebacks."""

    text: str


@dataclass(frozen=True)
class Picture:
    """An image that the code showed."""

    media_type: MediaType
    content: bytes


@dataclass(frozen=True)
class SandboxFile:
    """A regular file; `path` is below `DATA`, its parts parted by `/`, none of them `..` or a link."""

    path: str
    size: int


@dataclass(frozen=True)
class Listing:
    """Regular files by path. Of one that is not complete nothing is known of what is not in it."""

    files: Sequence[SandboxFile]
    complete: bool = True

    def __iter__(self) -> Iterator[SandboxFile]:
        return iter(self.files)


@dataclass(frozen=True)
class Finished:
    """How an execution ended. `cut` counts the characters of output that were left out."""

    ending: Ending
    state_lost: bool = False
    """Variables and imports are gone; the files are still there."""
    cut: int = 0
    files: tuple[SandboxFile, ...] = ()
    """What its user does not have as it is: neither put it there nor took it out before an execution whose files were kept.

    Of those that it had before all are named, perhaps more than are to be kept, so that it knows which are out of date.
    """


Output = Logs | Picture | Finished


class SandboxUnavailable(Exception):
    """There is no sandbox to be had; the sentence says why, and becomes the run's `last_error`."""


class SandboxLost(Exception):
    """The sandbox ended under its user, with all it held; the next `session` is a new one."""


class SandboxFileRefused(Exception):
    """A file cannot go in or come out: no room, no regular file, too large, gone. The sentence says which."""


class Session(Protocol):
    """A sandbox in one caller's hands. Each method raises SandboxLost."""

    fresh: bool
    """Nothing was executed in it yet: it has none of the files and variables of earlier sessions of its thread."""

    def execute(
        self, code: str, *, seconds: float, call: str = "", kept: str = ""
    ) -> AsyncGenerator[Output]:
        """Run a cell and give what it prints and shows as it comes; Finished is last.

        `call` names this execution, and `kept` the last one whose files somebody has kept, as far as they were taken out.
        What those after it wrote is in `Finished.files` again: whoever ran them was stopped before it was kept.

        After so many seconds the code is interrupted, and killed when that does not end it. Leaving early, also by
        cancellation, does the same at once: the processor is free again within two seconds.
        """
        ...

    async def put(self, path: str, size: int, content: AsyncIterator[bytes]) -> None:
        """Write a file of exactly `size` bytes, in the place of what was there. Raises SandboxFileRefused."""
        ...

    async def link(self, path: str, target: str) -> None:
        """Give a file a second name. Raises SandboxFileRefused."""
        ...

    async def remove(self, path: str) -> None:
        """Remove a file, or a second name, if it is there. Raises SandboxFileRefused."""
        ...

    def get(self, file: SandboxFile) -> AsyncGenerator[bytes]:
        """A file's bytes, exactly `file.size` of them. Raises SandboxFileRefused, also half-way."""
        ...

    async def files(self) -> Listing:
        """All regular files, a bounded number of them."""
        ...


class Sandbox(Protocol):
    """Sandboxes by key; a key is a thread's id."""

    def session(self, key: str) -> AbstractAsyncContextManager[Session]:
        """The key's session for this caller alone, while others wait; made when there is none, and kept afterwards.

        A session in which nothing was executed is not kept. Raises SandboxUnavailable.
        """
        ...

    async def keys(self) -> Sequence[str]:
        """Whose sessions are kept now by this process."""
        ...

    async def end(self, key: str) -> None:
        """End the key's session, if there is one, whatever it does."""
        ...

    async def close(self) -> None:
        """End all of this process's."""
        ...
