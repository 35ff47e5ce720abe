"""The driver's side of the connection to the host: its own standard input and output, out of everybody else's reach."""

import os

from wire import DATA, JSON, MAX_FRAME, Inbox, message, pieces

READ = 256 * 1024
LONGEST_LOG = 64 * 1024
"""Characters; as JSON each has up to twelve bytes."""


class Host:
    """Trusted, unlike the kernel."""

    def __init__(self) -> None:
        """Takes the standard streams; what is in their place leads nowhere."""
        self.descriptor, self._output = os.dup(0), os.dup(1)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1):
            os.dup2(nowhere, standard)
        os.close(nowhere)
        self._inbox = Inbox({JSON: MAX_FRAME, DATA: MAX_FRAME})

    def read(self) -> list[tuple[int, bytes]] | None:
        """Frames, as far as they are there; None when the host has let go."""
        received = os.read(self.descriptor, READ)
        return [*self._inbox.add(received)] if received else None

    def say(self, event: str, **fields: object) -> None:
        self._write(message({"ev": event} | fields))

    def log(self, cell: str, text: str) -> None:
        for start in range(0, len(text), LONGEST_LOG):
            self.say("log", id=cell, text=text[start : start + LONGEST_LOG])

    def send(self, content: bytes) -> None:
        for piece in pieces(content):
            self._write(piece)

    def _write(self, frame: bytes) -> None:
        rest = memoryview(frame)
        while rest:
            rest = rest[os.write(self._output, rest) :]
