"""What a backup looks like on disk (ADR 0025).

A directory: `manifest.json` with `manifest.json.sha256`, `rows/<table>.jsonl.gz`, `blobs.jsonl.gz` and the blobs themselves in `blobs/`.
"""

import gzip
import hashlib
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, cast

import orjson
from pydantic import BaseModel, ValidationError

from threadloom.blobs import sync
from threadloom.errors import StartError

MANIFEST = "manifest.json"
CHECKSUM = "manifest.json.sha256"
ROWS = "rows"
BLOBS = "blobs"
PIECE = 1024 * 1024
LEVEL = 3
"""Of gzip: more costs time and saves little."""


class Part(BaseModel):
    """A file of lines. `sha256` is that of the file as it is."""

    path: str
    sha256: str
    bytes: int
    lines: int


class Manifest(BaseModel):
    """What a backup holds."""

    format: Literal["threadloom backup 1"] = "threadloom backup 1"
    version: str
    schema_revision: str
    database: str
    created_at: int
    tables: dict[str, Part]
    numbers: dict[str, int]
    """The last number that each table gave away: none is given away again."""
    blobs: Part
    blob_bytes: int
    missing_blobs: int
    """Blobs that rows refer to and that were not there when the backup was made."""


class BlobEntry(BaseModel):
    """A line of the list of blobs. Without a checksum the blob was not there."""

    key: str
    bytes: int = 0
    sha256: str | None = None


class Hashed:
    """A file that is written once, and what it holds."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.bytes = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        self.bytes += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


@contextmanager
def hashed_file(path: Path) -> Generator[Hashed]:
    """A new file, on the disk when the block ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        yield Hashed(file)
        file.flush()
        os.fsync(file.fileno())


def write_lines(folder: Path, name: str, lines: Iterable[object]) -> Part:
    """A part with one JSON document in each line."""
    count = 0
    with hashed_file(folder / name) as file:
        with gzip.GzipFile(
            filename="", mode="wb", fileobj=cast("IO[bytes]", file), compresslevel=LEVEL, mtime=0
        ) as packed:
            for line in lines:
                packed.write(orjson.dumps(line) + b"\n")
                count += 1
        return Part(path=name, sha256=file.sha256, bytes=file.bytes, lines=count)


def read_lines(folder: Path, part: Part) -> Iterator[Any]:
    with gzip.open(folder / part.path, "rb") as file:
        for line in file:
            yield orjson.loads(line)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    content = manifest.model_dump_json(indent=2).encode() + b"\n"
    with hashed_file(folder / MANIFEST) as file:
        file.write(content)
    with hashed_file(folder / CHECKSUM) as checksum:
        checksum.write(f"{file.sha256}  {MANIFEST}\n".encode())  # as sha256sum reads it


def read_manifest(folder: Path) -> Manifest:
    """Raises StartError for what is no backup, or not one that this program knows, or damaged."""
    try:
        content = (folder / MANIFEST).read_bytes()
        checksum = (folder / CHECKSUM).read_bytes()
    except OSError:
        raise StartError(
            f"{folder} is no backup: it has no {MANIFEST} with its checksum."
        ) from None
    if checksum != f"{hashlib.sha256(content).hexdigest()}  {MANIFEST}\n".encode():
        raise StartError(f"The backup is damaged: {MANIFEST} is not what it was when it was made.")
    try:
        return Manifest.model_validate_json(content)
    except ValidationError:
        raise StartError(
            "The backup was made by a newer version of Threadloom: use that one, or a later one."
        ) from None


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def blobs_of(folder: Path, manifest: Manifest) -> Iterator[BlobEntry]:
    return map(BlobEntry.model_validate, read_lines(folder, manifest.blobs))


def sync_directories(folder: Path) -> None:
    """Names are on the disk only when their directory is."""
    for path, _, _ in os.walk(folder):
        sync(Path(path))
