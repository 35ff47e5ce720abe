"""Whether a backup is whole: every byte of it is read."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import orjson

from threadloom.keeping.layout import (
    BLOBS,
    BlobEntry,
    Manifest,
    Part,
    blobs_of,
    read_lines,
    read_manifest,
    sha256_of,
)

UNREADABLE = (OSError, EOFError, zlib.error, orjson.JSONDecodeError, gzip.BadGzipFile)


def faults_of(folder: Path) -> Iterator[str]:
    """A sentence for each thing that is wrong. Raises StartError where there is no backup, or its manifest is damaged."""
    manifest = read_manifest(folder)
    for part in manifest.tables.values():
        yield from faults_of_part(folder, part)
    listing = list(faults_of_part(folder, manifest.blobs))
    yield from listing
    if not listing:
        yield from faults_of_blobs(folder, manifest)


def faults_of_part(folder: Path, part: Part) -> Iterator[str]:
    path = folder / part.path
    if not path.is_file():
        yield f"{part.path} is missing."
    elif sha256_of(path) != part.sha256:
        yield f"{part.path} is damaged."
    else:
        try:
            count = sum(1 for _ in read_lines(folder, part))
        except UNREADABLE:
            yield f"{part.path} cannot be read."
            return
        if count != part.lines:
            yield f"{part.path} has {count} lines, and not {part.lines}."


def faults_of_blobs(folder: Path, manifest: Manifest) -> Iterator[str]:
    total = 0
    for entry in blobs_of(folder, manifest):
        if entry.sha256 is not None:
            total += entry.bytes
            yield from faults_of_blob(folder, entry)
    if total != manifest.blob_bytes:
        yield f"The blobs have {total} bytes together, and not {manifest.blob_bytes}."


def faults_of_blob(folder: Path, entry: BlobEntry) -> Iterator[str]:
    path = folder / BLOBS / entry.key
    if not path.is_file():
        yield f"{BLOBS}/{entry.key} is missing."
    elif sha256_of(path) != entry.sha256:
        yield f"{BLOBS}/{entry.key} is damaged."
