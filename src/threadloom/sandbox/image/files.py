"""The data folder, whose contents belong to whoever wrote the code: no link in it is ever followed."""

import errno
import json
import os
import stat
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice

MOST_FILES = 2_000
"""That one listing gives."""
MOST_SEEN = 20_000
"""Entries that are looked at for one listing."""
DEEPEST = 8
LARGEST_LISTING = 900 * 1024
"""Bytes of a listing's JSON: it must fit into one frame."""
MOST_MISSING = 1024 * 1024
"""Bytes of a file that may be holes whatever its size; of more than that, half must be there."""

CODES = {
    errno.ENOSPC: "no_space",
    errno.EDQUOT: "no_space",
    errno.EFBIG: "no_space",
    errno.ENOENT: "missing",
    errno.EACCES: "not_a_file",
    errno.EPERM: "not_a_file",
    errno.ENXIO: "not_a_file",
}
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
BLOCK = 512
"""Bytes that `st_blocks` counts."""
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Refused(Exception):
    """A file cannot be had, or not be written. `code` is the protocol's."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class Version:
    """What differs once a file was written again."""

    size: int
    modified: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Version":
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


class Folder:
    """Files by their path in it, parts parted by `/`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._root = os.open(path, OPEN_FOLDER)
        self._known: dict[str, Version] = {}
        """What the host has."""
        self._sent: dict[str, Version] = {}
        """What it has once it says that it kept the files of the cell of this call."""
        self._sent_after: str | None = None
        self._named: dict[tuple[str, Version], int] = {}
        """When files that the host did not take were named last, by its calls' numbers."""
        self._calls = 0

    def open(self, path: str, size: int) -> int:
        """A descriptor to read a regular file of exactly this size. Raises Refused."""
        *folders, name = parts_of(path)
        with refusing(), self._opened(folders) as parent:
            try:
                file = os.open(name, READ, dir_fd=parent)
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise Refused("not_a_file", "It is a link.") from None
                raise
            try:
                check_file(os.fstat(file), size)
            except Refused:
                os.close(file)
                raise
            return file

    def upload(self, path: str, size: int) -> "Upload":
        """Raises Refused."""
        *folders, name = parts_of(path)
        with refusing(), self._opened(folders, make=True) as parent:
            return Upload(self, path, size, os.dup(parent), name)

    def link(self, path: str, target: str) -> None:
        """Make `path` a relative link to `target`, both in this folder. Raises Refused."""
        *folders, name = parts_of(path)
        parts_of(target)
        with refusing(), self._opened(folders, make=True) as parent:
            provisional = unused_name()
            os.symlink("../" * len(folders) + target, provisional, dir_fd=parent)
            replace(parent, provisional, name)

    def remove(self, path: str) -> None:
        """Remove a file, or a link itself, if it is there. Raises Refused, also for a folder."""
        *folders, name = parts_of(path)
        with refusing(), suppress(FileNotFoundError), self._opened(folders) as parent:
            os.unlink(name, dir_fd=parent)

    def accept(self, path: str, status: os.stat_result) -> None:
        """The host put this file: it is no news to it."""
        self._known[path] = self._sent[path] = Version.of(status)

    def sent(self, path: str, status: os.stat_result) -> None:
        """The host has all bytes of this file, which was like this before they were read."""
        self._sent[path] = Version.of(status)

    def files(self) -> tuple[list[dict[str, object]], bool]:
        """All regular files, within bounds, by path, and whether these are all there are, other than too far down."""
        found, complete = self._scan()
        listed = bounded(found.items(), MOST_FILES)
        return by_path(listed), complete and len(listed) == len(found)

    def changed(self, most: int, call: str) -> tuple[list[dict[str, object]], int]:
        """Those that the host does not have as they are, `most` of them, and how many there would be without bounds.

        First come those of which it has an older state, all of them even beyond `most`: it has to know that this is no more
        what is there. Of the others, those that were never named as they are, then those that were not for longest.
        """
        found, _ = self._scan()
        changed = {path: each for path, each in found.items() if self._known.get(path) != each}
        self._sent = {path: each for path, each in found.items() if path not in changed}
        self._sent_after = call
        older = self._known.keys() & changed.keys()
        order = sorted(
            changed.items(), key=lambda file: (file[0] not in older, self._named.get(file, 0))
        )
        listed = bounded(order, max(most, len(older)))
        self._calls += 1
        before = {file: self._named[file] for file in order if file in self._named}
        self._named = before | dict.fromkeys(order[: min(most, len(listed))], self._calls)
        return by_path(listed[:most]) + listed[most:], len(changed)

    def acknowledge(self, call: str) -> None:
        """The host kept the files of this call that it took. Of an interrupted one it kept none: they are named again."""
        if call == self._sent_after:
            self._known, self._sent_after = dict(self._sent), None

    def unlock(self) -> None:
        """Code can take its own folder's rights away; the next cell, and the host, need them."""
        os.fchmod(self._root, stat.S_IRWXU)

    @contextmanager
    def _opened(self, folders: list[str], *, make: bool = False) -> Generator[int]:
        """A folder in this one, opened part by part. Raises OSError."""
        self.unlock()
        folder = os.dup(self._root)
        try:
            for part in folders:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, 0o755, dir_fd=folder)
                inner = os.open(part, OPEN_FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)

    def _scan(self) -> tuple[dict[str, Version], bool]:
        """Regular files with names in UTF-8; folders nearer to the top come first. False when some could not be looked at.

        Raises OSError when none could: then this process is of no use any more.
        """
        found: dict[str, Version] = {}
        folders = deque([("", 1)])
        left = MOST_SEEN
        complete = True
        while folders and left > 0:
            folder, depth = folders.popleft()
            try:
                for name, status in self._entries(folder, left):
                    left -= 1
                    path = f"{folder}/{name}" if folder else name
                    if stat.S_ISREG(status.st_mode):
                        found[path] = Version.of(status)
                    elif stat.S_ISDIR(status.st_mode) and depth < DEEPEST:
                        folders.append((path, depth + 1))
            except OSError:
                if not folder:
                    raise
                complete = False
        return found, complete and left > 0

    def _entries(self, folder: str, most: int) -> Iterator[tuple[str, os.stat_result]]:
        """Raises OSError."""
        parts = folder.split("/") if folder else []
        with self._opened(parts) as opened, os.scandir(opened) as entries:
            for entry in islice(entries, most):
                with suppress(FileNotFoundError, UnicodeEncodeError):
                    entry.name.encode()
                    yield entry.name, entry.stat(follow_symlinks=False)


class Upload:
    """A file on its way in: it has a name of its own until it is complete."""

    def __init__(self, folder: Folder, path: str, size: int, parent: int, name: str) -> None:
        self._folder, self._path, self._left = folder, path, size
        self._parent, self._name = parent, name
        self._provisional = unused_name()
        try:
            self._file = os.open(self._provisional, CREATE, 0o644, dir_fd=parent)
        except OSError:
            os.close(parent)
            raise

    @property
    def complete(self) -> bool:
        return self._left == 0

    def write(self, content: bytes) -> None:
        """Raises Refused."""
        if len(content) > self._left:
            raise Refused("too_large", "More came than was announced.")
        self._left -= len(content)
        rest = memoryview(content)
        with refusing():
            while rest:
                rest = rest[os.write(self._file, rest) :]

    def finish(self) -> None:
        """Put it in the place of what has its name. Raises Refused."""
        try:
            with refusing():
                replace(self._parent, self._provisional, self._name)
            self._folder.accept(self._path, os.fstat(self._file))
        finally:
            self._close()

    def abandon(self) -> None:
        with suppress(OSError):
            os.unlink(self._provisional, dir_fd=self._parent)
        self._close()

    def _close(self) -> None:
        os.close(self._file)
        os.close(self._parent)


def parts_of(path: str) -> list[str]:
    """Raises Refused."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise Refused("bad_path", "It is no path below the data folder.")
    return parts


def check_file(status: os.stat_result, size: int) -> None:
    """Raises Refused."""
    if not stat.S_ISREG(status.st_mode):
        raise Refused("not_a_file", "It is no regular file.")
    if status.st_size > size:
        raise Refused("too_large", f"It has {status.st_size} bytes.")
    if status.st_size < size:
        raise Refused("changed", f"It has only {status.st_size} bytes.")
    there = status.st_blocks * BLOCK
    if status.st_size - there > max(there, MOST_MISSING):
        raise Refused("sparse", f"Of its {status.st_size} bytes {there} are there.")


def replace(folder: int, provisional: str, name: str) -> None:
    """Rename; a link of that name is replaced itself, and a folder is in the way. Raises OSError."""
    try:
        os.rename(provisional, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with suppress(OSError):
            os.unlink(provisional, dir_fd=folder)
        raise


def unused_name() -> str:
    return f".{os.urandom(8).hex()}.part"


def bounded(files: Iterable[tuple[str, Version]], most: int) -> list[dict[str, object]]:
    """The first of them that fit."""
    listed: list[dict[str, object]] = []
    room = LARGEST_LISTING
    for path, version in files:
        entry: dict[str, object] = {"path": path, "size": version.size}
        room -= len(json.dumps(entry)) + 2
        if len(listed) == most or room < 0:
            break
        listed.append(entry)
    return listed


def by_path(listed: list[dict[str, object]]) -> list[dict[str, object]]:
    return sorted(listed, key=lambda entry: str(entry["path"]))


@contextmanager
def refusing() -> Generator[None]:
    """Raises Refused in the place of OSError."""
    try:
        yield
    except OSError as error:
        code = CODES.get(error.errno or 0, "bad_path")
        raise Refused(code, error.strerror or "The system refused.") from None
