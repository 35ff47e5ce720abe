"""Server-sent events, cut from raw bytes as Chat Completions uses them: each `data:` line is one event."""

LONGEST_LINE = 10 * 1024 * 1024


class LineTooLong(Exception):
    """A line of the stream exceeds the limit."""


class DataLines:
    """Collects bytes, however they were split, and gives back the payloads of `data:` lines."""

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._longest = longest
        self._rest: list[bytes] = []
        self._rest_size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        lines = chunk.split(b"\n")
        if len(lines) == 1:
            self._keep(chunk)
            return []
        if self._rest:
            lines[0] = b"".join((*self._rest, lines[0]))
            self._rest, self._rest_size = [], 0
        if last := lines.pop():
            self._keep(last)
        return self._payloads(lines)

    def flush(self) -> list[bytes]:
        """The payload of a last line that nothing ended."""
        line, self._rest, self._rest_size = b"".join(self._rest), [], 0
        return self._payloads([line])

    def _keep(self, piece: bytes) -> None:
        self._rest.append(piece)
        self._rest_size += len(piece)
        if self._rest_size > self._longest:
            raise LineTooLong(f"A line has more than {self._longest} bytes.")

    def _payloads(self, lines: list[bytes]) -> list[bytes]:
        found = [line[5:].strip() for line in lines if line.startswith(b"data:")]
        return [payload for payload in found if payload]
