"""A directory, .zip or .tar as entries to be read. Nothing is ever unpacked to a path that an archive names.

Archives come from anywhere: links, devices, names that lead outside and what unpacks to far more than its size are refused.
"""

import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from threadloom.errors import StartError

MAX_ENTRIES = 200_000
BLOWN_UP = 200
SPARE = 64 * 1024 * 1024
"""An archive may unpack to this many times its size, and this much more."""
ENCRYPTED = 1
METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""Of the others zipfile unpacks all that a piece of the archive holds at once, however much that is."""
MAX_HEADER = 64 * 1024
"""Bytes of a tar header for a long name or for attributes: tarfile reads it whole."""
DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
    *(EOFError, OSError, ValueError, NotImplementedError, RecursionError),
)
"""What reading a damaged archive raises."""
NUMBER = re.compile("[0-9]+")
EXTENDED = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
"""Types of headers that say more of the next one."""
SPARSE = "it holds sparse files: make it without them"
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True)
class Entry:
    """A file of an archive; its path has slashes and no `..`."""

    path: str
    size: int
    open: Callable[[], IO[bytes]]


Refused = Callable[[str, str], None]
"""Told of the path of an entry that is not read, and why."""


class Entries(Protocol):
    """The files of an archive."""

    def all(self, refused: Refused) -> Iterator[Entry]:
        """Each of them, in an order that people would expect."""
        ...

    def some(self, paths: Sequence[str]) -> Iterator[Entry]:
        """These, as near to the given order as the archive allows."""
        ...

    def close(self) -> None: ...


@contextmanager
def open_entries(path: Path) -> Generator[Entries]:
    """Raises StartError when there is no such thing, or it cannot be trusted."""
    entries = opened(path)
    try:
        yield entries
    finally:
        entries.close()


def opened(path: Path) -> Entries:
    try:
        if path.is_dir():
            return Directory(path)
        if path.name.lower().endswith(TARS):
            return Tar(path)
        if zipfile.is_zipfile(path):
            return Zip(path)
        if path.suffix.lower() in {".json", ".jsonl", ".ndjson"} and path.is_file():
            return OneFile(path)
    except DAMAGED as error:
        raise StartError(f"Cannot read {path}: {error}") from None
    if not path.exists():
        raise StartError(f"There is no {path}.")
    raise StartError(
        f"{path} is neither a directory nor a .zip, .tar, .tar.gz, .json or .jsonl file."
    )


def natural(name: str) -> str:
    """Sorts `page-2` before `page-10`."""
    return NUMBER.sub(lambda digits: digits[0].zfill(20), name)


def unsafe(name: str) -> str | None:
    """Why a path is refused."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
        return "its path leads outside the archive"
    return None


def hidden(path: str) -> bool:
    """What file managers leave behind."""
    parts = PurePosixPath(path).parts
    return ".." not in parts and any(part.startswith(".") or part == "__MACOSX" for part in parts)


class OneFile:
    """A single JSON file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self, refused: Refused) -> Iterator[Entry]:
        del refused
        yield Entry(self._path.name, self._path.stat().st_size, lambda: self._path.open("rb"))

    def some(self, paths: Sequence[str]) -> Iterator[Entry]:
        yield from (one for one in self.all(lambda _, __: None) if one.path in paths)

    def close(self) -> None:
        """Nothing is open."""


class Directory:
    """Regular files below a directory; links are not followed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def all(self, refused: Refused) -> Iterator[Entry]:
        count = 0
        for folder, folders, names in os.walk(self._root):
            folders.sort(key=natural)
            for name in sorted(names, key=natural):
                path = (Path(folder) / name).relative_to(self._root).as_posix()
                if hidden(path):
                    continue
                count += 1
                refuse_too_many(count)
                try:
                    path.encode()
                    found = (self._root / path).lstat()
                except (OSError, UnicodeEncodeError) as error:
                    refused(
                        path.encode(errors="replace").decode(),
                        f"it cannot be read: {type(error).__name__}",
                    )
                    continue
                if not stat.S_ISREG(found.st_mode):
                    refused(path, "it is a link or no regular file")
                    continue
                yield Entry(path, found.st_size, self._opener(path))
            for name in [one for one in folders if (Path(folder) / one).is_symlink()]:
                refused((Path(folder) / name).relative_to(self._root).as_posix(), "it is a link")

    def some(self, paths: Sequence[str]) -> Iterator[Entry]:
        for path in paths:
            yield Entry(path, (self._root / path).lstat().st_size, self._opener(path))

    def _opener(self, path: str) -> Callable[[], IO[bytes]]:
        def open_regular() -> IO[bytes]:
            descriptor = os.open(self._root / path, os.O_RDONLY | os.O_NOFOLLOW)
            return os.fdopen(descriptor, "rb")

        return open_regular

    def close(self) -> None:
        """Nothing is open."""


class Zip:
    """A .zip. No more than the size that it tells can come out of an entry."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)
        found = self._zip.infolist()
        refuse_too_many(len(found))
        refuse_bomb(path, sum(one.file_size for one in found))
        self._found = sorted(found, key=lambda one: natural(one.filename))

    def all(self, refused: Refused) -> Iterator[Entry]:
        for one in self._found:
            name = one.filename.replace("\\", "/")
            if one.is_dir() or hidden(name):
                continue
            if reason := unsafe(name) or untaken(one):
                refused(name, reason)
            else:
                yield self._entry(one)

    def some(self, paths: Sequence[str]) -> Iterator[Entry]:
        by_path = {one.filename.replace("\\", "/"): one for one in self._found}
        for path in paths:
            yield self._entry(by_path[path])

    def _entry(self, one: zipfile.ZipInfo) -> Entry:
        return Entry(one.filename.replace("\\", "/"), one.file_size, lambda: self._zip.open(one))

    def close(self) -> None:
        self._zip.close()


def untaken(one: zipfile.ZipInfo) -> str | None:
    mode = one.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
        return "it is a link or no regular file"
    if one.flag_bits & ENCRYPTED:
        return "it is encrypted"
    return None if one.compress_type in METHODS else "it is compressed otherwise than by deflate"


class Member(tarfile.TarInfo):
    """A header of a tar, which takes no more memory than honest ones do; a hostile one raises ReadError."""

    def _proc_member(self, of: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0 or (self.type in EXTENDED and self.size > MAX_HEADER):
            raise tarfile.ReadError("one of its headers is too large")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(SPARSE)
        return super()._proc_member(of)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType] - typeshed has it not

    def _proc_gnusparse_10(self, *_: object) -> None:
        raise tarfile.ReadError(SPARSE)


class Tar:
    """A .tar, read from its beginning to its end each time: compressed ones cannot be read otherwise."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open():
            pass

    def all(self, refused: Refused) -> Iterator[Entry]:
        with self._open() as tar:
            for count, one in enumerate(iter(tar.next, None), 1):
                # It would keep all headers until its end.
                tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] - typeshed has it not
                refuse_too_many(count)
                refuse_bomb(self._path, one.offset_data + one.size)
                path = one.name.removeprefix("./")
                if one.isdir() or hidden(path):
                    continue
                if reason := unsafe(path):
                    refused(path, reason)
                elif not one.isreg() or one.issparse():
                    refused(path, "it is a link or no regular file")
                else:
                    yield Entry(path, one.size, member_opener(tar, one))

    def some(self, paths: Sequence[str]) -> Iterator[Entry]:
        wanted = set(paths)
        for entry in self.all(lambda _, __: None) if wanted else ():
            if entry.path in wanted:
                yield entry

    def _open(self) -> tarfile.TarFile:
        return tarfile.open(self._path, "r:*", tarinfo=Member)

    def close(self) -> None:
        """Nothing is open."""


def member_opener(tar: tarfile.TarFile, one: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    def open_member() -> IO[bytes]:
        file = tar.extractfile(one)
        assert file is not None  # it is a regular file
        return file

    return open_member


def refuse_too_many(count: int) -> None:
    if count > MAX_ENTRIES:
        raise StartError(f"There are more than {MAX_ENTRIES} files in it. Import it in parts.")


def refuse_bomb(path: Path, unpacked: int) -> None:
    if unpacked > path.stat().st_size * BLOWN_UP + SPARE:
        raise StartError(
            f"{path} unpacks to far more than its size. Unpack it yourself and import the directory."
        )
