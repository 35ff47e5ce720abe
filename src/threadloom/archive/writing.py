"""An archive as `export` writes it: a directory or a .zip, complete or not there at all."""

import secrets
import shutil
import zipfile
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Protocol

from threadloom.archive.entries import hidden
from threadloom.errors import StartError

LONGEST_NAME = 255
"""Bytes that file systems allow."""


class Writer(Protocol):
    """Takes files, one after the other."""

    def open(self, path: str) -> AbstractContextManager[IO[bytes]]: ...


class DirectoryWriter:
    """Files of a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def open(self, path: str) -> Generator[IO[bytes]]:
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            yield file


class ZipWriter:
    """Entries of a .zip."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def open(self, path: str) -> AbstractContextManager[IO[bytes]]:
        return self._archive.open(path, "w", force_zip64=True)


@contextmanager
def writing(path: Path) -> Generator[Writer]:
    """The archive gets its name when the block ends well. Raises StartError when something has that name, or there is no room."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise StartError(f"{path} is there already.")
    unfinished = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(unfinished, "x", zipfile.ZIP_DEFLATED) as archive:
                yield ZipWriter(archive)
        else:
            unfinished.mkdir()
            yield DirectoryWriter(unfinished)
        unfinished.replace(path)
    except OSError as error:
        raise StartError(f"Cannot write {path}: {error.strerror}.") from None
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished)
        else:
            unfinished.unlink(missing_ok=True)


def place_of(file_id: str, filename: str) -> str:
    """Where a file's bytes are; a name that file systems do not take, or `import` does not look at, is replaced."""
    fits = len(filename.encode()) <= LONGEST_NAME and not hidden(filename) and "\\" not in filename
    return f"files/{file_id}/{filename if fits else 'content'}"
