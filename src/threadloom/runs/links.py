"""Links in an answer: `sandbox:/mnt/data/` and the path of a file that there is becomes an annotation; any other stays text.

Only what can still become a link, or a longer one, is held back. How an answer is cut into pieces changes nothing.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from threadloom.runs.citations import AnswerReader, Piece, joined
from threadloom.sandbox.session import DATA
from threadloom.types.shared import JsonObject

PREFIX = f"sandbox:{DATA}/"
PREFIXES = (PREFIX, f"sandbox://{DATA}/")
"""Models also write it as other URLs are written."""
GOES_ON = re.compile(r"[0-9A-Za-z_%/~-]|\.[0-9A-Za-z]")
"""What follows a path that is longer than the one that was found."""
ESCAPED = re.compile(r"%(?P<byte>[0-9A-Fa-f]{2})|(?P<cut>%[0-9A-Fa-f]?\Z)|.", re.DOTALL)


@dataclass(frozen=True)
class LinkedFile:
    """A file that answers may link: `path` is below `DATA`."""

    path: str
    file_id: str


@dataclass(frozen=True)
class Link:
    """A link, and how the model wrote it."""

    written: str
    file_id: str

    def annotation(self, start: int) -> JsonObject:
        return {
            "type": "file_path",
            "text": self.written,
            "start_index": start,
            "end_index": start + len(self.written),
            "file_path": {"file_id": self.file_id},
        }


class Linker:
    """Reads an answer, through another reader if there is one, and marks its links."""

    def __init__(self, files: Sequence[LinkedFile], reader: AnswerReader | None = None) -> None:
        self._files = files
        self._reader = reader
        self._held = ""
        # A byte takes three characters at most; two more tell whether the path ends there.
        self._longest = 3 * max((len(file.path.encode()) for file in files), default=0) + 2

    def feed(self, text: str) -> list[Piece]:
        """What can be passed on after this much more text."""
        pieces = self._reader.feed(text) if self._reader else [Piece(text)]
        return joined(self._linked(pieces))

    def finish(self) -> list[Piece]:
        """The rest."""
        pieces = self._reader.finish() if self._reader else []
        return joined([*self._linked(pieces), *self._read(whole=True)])

    def _linked(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            if piece.source:
                yield from self._read(whole=True)
                yield piece
            else:
                self._held += piece.text
                yield from self._read(whole=False)

    def _read(self, *, whole: bool) -> Iterator[Piece]:
        """The links in what is held; `whole` when no more belongs to it."""
        while self._held:
            yield self._pass(start_of_link(self._held))
            prefix = prefix_of(self._held)
            written = self._held[len(prefix) :][: self._longest]
            ends = list(self._ends_in(written))
            if not whole and any(is_open(end, written) for end, _ in ends):
                return
            ended = [one for one in ends if one[0] and not GOES_ON.match(written, one[0])]
            if ended:
                end, file_id = max(ended)
                link = Link(prefix + written[:end], file_id)
                self._pass(len(link.written))
                yield Piece(link.written, link)
            else:
                yield self._pass(len(prefix))

    def _pass(self, length: int) -> Piece:
        text, self._held = self._held[:length], self._held[length:]
        return Piece(text)

    def _ends_in(self, written: str) -> Iterator[tuple[int, str]]:
        """Where known paths end in what is written; at 0 those that may end later."""
        spellings = (read_as_it_is(written), read_escaped(written))
        for file in self._files:
            path = file.path.encode()
            for read, ends in spellings:
                if read.startswith(path):
                    yield ends[len(path) - 1], file.file_id
                elif path.startswith(read):
                    yield 0, file.file_id


def start_of_link(text: str) -> int:
    """Where a link begins, or may begin once there is more; the end of the text if nowhere."""
    if found := [start for prefix in PREFIXES if (start := text.find(prefix)) >= 0]:
        return min(found)
    last = range(max(len(text) - max(map(len, PREFIXES)), 0), len(text))
    return next((at for at in last if begins_prefix(text[at:])), len(text))


def begins_prefix(text: str) -> bool:
    return any(prefix.startswith(text) for prefix in PREFIXES)


def prefix_of(held: str) -> str:
    """The one that what is held begins with, or one that it may begin with once there is more."""
    return next(one for one in PREFIXES if held.startswith(one) or one.startswith(held))


def is_open(end: int, written: str) -> bool:
    """Whether more text can still make a path end here, or not."""
    return not end or written[end:] in ("", ".")


def read_as_it_is(written: str) -> tuple[bytes, list[int]]:
    """The bytes of a path, and where in the text each of them ends."""
    encoded = [character.encode(errors="replace") for character in written]
    return b"".join(encoded), [at for at, one in enumerate(encoded, 1) for _ in one]


def read_escaped(written: str) -> tuple[bytes, list[int]]:
    """The same of a path that is percent-encoded, wholly or here and there."""
    read, ends = bytearray(), list[int]()
    for part in ESCAPED.finditer(written):
        if part["cut"]:
            break
        one = bytes.fromhex(part["byte"]) if part["byte"] else part[0].encode(errors="replace")
        read += one
        ends += [part.end()] * len(one)
    return bytes(read), ends
