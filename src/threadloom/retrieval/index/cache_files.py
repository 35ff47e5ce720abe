"""Segments in files, so that a large store is searched at once after a start, and by several processes from one memory.

A file is a cache and nothing else: its segment names the files whose chunks it has, and what is not so any more, or not
readable to the last byte, is taken from the rows.
"""

import math
import os
import struct
import tempfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import orjson
import structlog
from numpy.typing import NDArray

from threadloom.clock import Clock
from threadloom.retrieval.index.segments import File, Segment
from threadloom.retrieval.index.vectors import packed_scan, unpacked_scan
from threadloom.retrieval.lexical import Postings

log = structlog.get_logger()

MAGIC = b"threadloom index 1\n"
SUFFIX, UNFINISHED = ".index", ".unfinished"
ALIGNMENT = 64
ABANDONED = 3600.0
"""Seconds after which an unfinished file is nobody's any more."""

PREFIX = struct.Struct("<QI")

Arrays = Mapping[str, NDArray[Any]]


class Unreadable(Exception):
    """The file is not what it was when it was written."""


@dataclass(frozen=True)
class CacheFiles:
    """One file for each large store, in one directory that several processes share."""

    directory: Path

    def path(self, store_id: str) -> Path:
        return self.directory / f"{store_id}{SUFFIX}"

    def load(self, store_id: str) -> list[Segment]:
        """The store's segment, or none."""
        path = self.path(store_id)
        try:
            return [read_segment(path, store_id)]
        except FileNotFoundError:
            return []
        except (OSError, Unreadable) as error:
            log.warning("index file was not used", path=str(path), error=repr(error))
            return []

    def save(self, store_id: str, segment: Segment) -> Segment:
        """The same segment as it stands in the file, whose memory all processes share; itself, when that fails."""
        path = self.path(store_id)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_segment(path, store_id, segment)
            return read_segment(path, store_id)
        except (OSError, Unreadable) as error:
            log.warning("index file was not written", path=str(path), error=repr(error))
            return segment

    def store_ids(self) -> list[str]:
        return [path.name.removesuffix(SUFFIX) for path in self.directory.glob(f"*{SUFFIX}")]

    def changed_at(self, store_id: str) -> int:
        """When the store's file was written, in nanoseconds; 0 when there is none."""
        try:
            return self.path(store_id).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def held(self, store_id: str) -> list[int]:
        """The numbers of the files whose chunks the store's file has; none when it cannot be read."""
        try:
            raw = np.memmap(self.path(store_id), np.uint8, "r")
            told, _ = read_header(np.asarray(raw))
        except (OSError, ValueError, Unreadable):
            return []
        return [File(*file).seq for file in told["files"]]

    def remove(self, store_ids: Collection[str]) -> None:
        for store_id in store_ids:
            self.path(store_id).unlink(missing_ok=True)

    def remove_unfinished(self, clock: Clock) -> None:
        """What processes left that were killed while they wrote."""
        for path in self.directory.glob(f"*{UNFINISHED}"):
            with suppress(FileNotFoundError):  # another process finished it, or removed it
                if path.stat().st_mtime < clock.now() - ABANDONED:
                    path.unlink()


def write_segment(path: Path, store_id: str, segment: Segment) -> None:
    """Whoever opens `path` sees the old file or the new one, and never a part."""
    arrays = arrays_of(segment)
    head = header(store_id, segment.files, arrays)
    handle, name = tempfile.mkstemp(UNFINISHED, f"{store_id}.", path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(head)
            file.writelines(body(arrays))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


def arrays_of(segment: Segment) -> Arrays:
    arrays: dict[str, NDArray[Any]] = {
        "starts": segment.starts,
        "chunks": segment.chunks,
        "owners": segment.owners,
        "vectors": segment.vectors,
        **{f"words.{name}": array for name, array in segment.words.arrays().items()},
    }
    if segment.scan:
        arrays["scan"] = packed_scan(segment.scan)
    return arrays


def body(arrays: Arrays) -> Iterator[memoryview | bytes]:
    """The arrays, each from an aligned place on."""
    for array in arrays.values():
        yield array.reshape(-1).view(np.uint8).data
        yield bytes(padding(array.nbytes))


def padding(size: int) -> int:
    return -size % ALIGNMENT


def header(store_id: str, files: tuple[File, ...], arrays: Arrays) -> bytes:
    """Magic, its own length and checksum, and JSON that tells what follows."""
    checksum = 0
    for piece in body(arrays):
        checksum = zlib.crc32(piece, checksum)
    about = orjson.dumps(
        {
            "store": store_id,
            "faiss": faiss.__version__,
            "checksum": checksum,
            "files": [list(file) for file in files],
            "arrays": [[name, one.dtype.str, one.shape] for name, one in arrays.items()],
        }
    )
    front = MAGIC + PREFIX.pack(len(about), zlib.crc32(about)) + about
    return front + bytes(padding(len(front)))


def read_segment(path: Path, store_id: str) -> Segment:
    """The segment, its arrays mapped from the file. Every byte is checked first: later nobody does."""
    if not path.stat().st_size:
        raise Unreadable("it is empty")
    raw = np.asarray(np.memmap(path, np.uint8, "r"))
    told, end = read_header(raw)
    if (told["store"], told["faiss"]) != (store_id, faiss.__version__):
        raise Unreadable("it was made for something else")
    content = raw[end:]
    if zlib.crc32(content.data) != told["checksum"]:
        raise Unreadable("it is damaged")
    return segment_of([File(*file) for file in told["files"]], mapped(content, told["arrays"]))


def read_header(raw: NDArray[np.uint8]) -> tuple[dict[str, Any], int]:
    """What a file tells of itself, and where its arrays begin."""
    start = len(MAGIC) + PREFIX.size
    if raw.size < start or raw[: len(MAGIC)].tobytes() != MAGIC:
        raise Unreadable("it is of another version")
    length, checksum = PREFIX.unpack(raw[len(MAGIC) : start].tobytes())
    about = raw[start : start + length].tobytes()
    if len(about) < length or zlib.crc32(about) != checksum:
        raise Unreadable("its header is damaged")
    return orjson.loads(about), start + length + padding(start + length)


def mapped(content: NDArray[np.uint8], told: list[tuple[str, str, list[int]]]) -> Arrays:
    arrays: dict[str, NDArray[Any]] = {}
    at = 0
    for name, kind, shape in told:
        size = np.dtype(kind).itemsize * math.prod(shape)
        arrays[name] = content[at : at + size].view(kind).reshape(shape)
        at += size + padding(size)
    return arrays


def segment_of(files: list[File], arrays: Arrays) -> Segment:
    words = {
        name.removeprefix("words."): array
        for name, array in arrays.items()
        if name.startswith("words.")
    }
    return Segment(
        files=tuple(files),
        starts=arrays["starts"],
        chunks=arrays["chunks"],
        owners=arrays["owners"],
        vectors=arrays["vectors"],
        words=Postings.from_arrays(words),
        scan=unpacked_scan(arrays["scan"]) if "scan" in arrays else None,
        settled=True,
    )
