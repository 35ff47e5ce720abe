"""Whether this host is there for the sandbox runner alone, as a container is that has no more than the engine's socket."""

import socket
import struct

from threadloom.commands.doctor.findings import Finding, green
from threadloom.commands.looking import sqlite_file
from threadloom.config import Settings
from threadloom.sandbox.visits import address_of

CREDENTIALS = struct.Struct("3i")
"""Process, user and group, as Linux tells them of who listens at the other end."""
PATIENCE = 5.0


def look_for_runner(settings: Settings) -> Finding | None:
    """None where a database is set up too, or the runner at the configured path is not a process of this host."""
    file = sqlite_file(settings)
    url = settings.code_interpreter.runner.url
    if url is None or file is None or file.exists() or not is_process_of_ours(url):
        return None
    says = f"it listens at {url}, and there is no database: only what it needs is looked at"
    return green("runner", says)


def is_process_of_ours(url: str) -> bool:
    """Other containers see the socket too, but not the process: to them its number is 0."""
    path = address_of(url)
    if not isinstance(path, str) or not hasattr(socket, "SO_PEERCRED"):
        return False
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.settimeout(PATIENCE)
        try:
            visitor.connect(path)
        except OSError:
            return False
        told = visitor.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    process: int = CREDENTIALS.unpack(told)[0]
    return process != 0
