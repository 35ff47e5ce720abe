"""Office documents as what they are, ZIP archives of XML: opened with suspicion, read as streams."""

import posixpath
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from threadloom.retrieval.parsing.decoding import resemblance
from threadloom.retrieval.parsing.sections import DAMAGED, ENCRYPTED, invalid
from threadloom.retrieval.parsing.trees import Element, Event, walk_xml

MAX_ENTRIES = 100_000
MAX_PART = 256 * 1024 * 1024
MAX_PARTS = 512 * 1024 * 1024
ENCRYPTED_FLAG = 1
METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ENCRYPTED_STREAM = "EncryptedPackage".encode("utf-16-le")
HEAD = 64 * 1024
BOMB = "it unpacks to far more than its size. Save it again without what is not needed and upload the result."


class Archive:
    """The parts of an Office document; `kind` is what its owner calls it, for the sentences."""

    def __init__(self, path: Path, kind: str) -> None:
        refuse_other_kinds(path, kind)
        try:
            self._zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile:
            raise invalid(DAMAGED) from None
        self._unpacked = 0
        entries = self._zip.infolist()
        if len(entries) > MAX_ENTRIES:
            raise invalid(BOMB)
        self._parts = {entry.filename.lower(): entry for entry in entries}

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._parts

    def names(self) -> list[str]:
        return [*self._parts]

    def size(self, name: str) -> int:
        return self._parts[name.lower()].file_size

    def open(self, name: str) -> IO[bytes]:
        """No more than the size that the archive tells can come out of it."""
        entry = self._parts.get(name.lower())
        if entry is None or entry.compress_type not in METHODS:
            raise invalid(DAMAGED)
        if entry.flag_bits & ENCRYPTED_FLAG:
            raise invalid(ENCRYPTED)
        self._unpacked += entry.file_size
        if entry.file_size > MAX_PART or self._unpacked > MAX_PARTS:
            raise invalid(BOMB)
        return self._zip.open(entry)

    def elements(self, name: str, tags: Collection[str]) -> Iterator[tuple[Event, str, Element]]:
        """The elements of a part that have these names, namespaces aside, as they begin and end."""
        with self.open(name) as part:
            yield from walk_xml(part, tags)

    def relations(self, name: str) -> dict[str, tuple[str, str]]:
        """What the part refers to: id -> (kind, part)."""
        folder = PurePosixPath(name).parent
        list_name = str(folder / "_rels" / (PurePosixPath(name).name + ".rels"))
        if list_name not in self:
            return {}
        return {
            element.attrib["Id"]: (
                element.attrib["Type"].rpartition("/")[2],
                resolve(folder, element.attrib["Target"]),
            )
            for event, _, element in self.elements(list_name, {"Relationship"})
            if event == "end" and element.attrib.get("TargetMode") != "External"
        }

    def main_part(self, usual: str) -> str:
        """The part that holds the document, wherever it lies."""
        found = (part for kind, part in self.relations("").values() if kind == "officeDocument")
        return next(found, usual)


def refuse_other_kinds(path: Path, kind: str) -> None:
    """Says what the file is instead of an Office document, as far as that can be told."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head.startswith(OLE):
        # An encrypted document, or one of before 2007, is a file system of its own in which parts have names.
        if ENCRYPTED_STREAM in head or ENCRYPTED_STREAM in end_of(path):
            raise invalid(ENCRYPTED)
        raise invalid(
            f"it is an old Office file under a new name. Save it as a {kind} and upload that."
        )
    if not head.startswith(b"PK"):
        raise invalid(f"it is no {kind}{resemblance(head)}. Upload it under its real extension.")


def end_of(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - HEAD))
        return file.read(HEAD)


def resolve(folder: PurePosixPath, target: str) -> str:
    return posixpath.normpath(posixpath.join("/", str(folder), target)).lstrip("/")
