"""The driver in a real container, spoken to in its own frames."""

import json
import struct
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import IO, Any, cast

from threadloom.config import CodeInterpreter
from threadloom.sandbox.engine import USER, limits

HEAD = struct.Struct("!IB")
JSON, DATA = b"JD"
MAX_FRAME = 1024 * 1024
FLAGS = {
    "network_mode": "network",
    "read_only": "read-only",
    "cap_drop": "cap-drop",
    "security_opt": "security-opt",
    "pids_limit": "pids-limit",
    "mem_limit": "memory",
    "memswap_limit": "memory-swap",
    "nano_cpus": "cpus",
    "ipc_mode": "ipc",
    "shm_size": "shm-size",
    "tmpfs": "tmpfs",
    "ulimits": "ulimit",
    "log_config": "log-driver",
    "auto_remove": "rm",
    "init": "init",
}
SETTINGS = CodeInterpreter(memory=512 * 1024**2, disk=128 * 1024**2, cpus=1)
IMAGE = SETTINGS.image

Message = dict[str, Any]


@dataclass
class Ran:
    """What came of a cell. `order` has `text` and `picture` as they came."""

    text: str = ""
    pictures: list[bytes] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    done: Message = field(default_factory=dict)

    @property
    def ending(self) -> str:
        return self.done["ending"]

    @property
    def paths(self) -> list[str]:
        return [file["path"] for file in self.done["files"]]


class Driving:
    """The host's part, one thing after the other."""

    def __init__(self, into: IO[bytes], out: IO[bytes]) -> None:
        self._into, self._out = into, out
        self._ids = map(str, count(1))

    def run(self, code: str, *, interrupt: float | None = None, **limits: Any) -> Ran:
        """`interrupt`: this grace, as soon as the cell has printed something. Files that are named are fetched."""
        id_ = self.start(code, **limits)
        ran = Ran()
        while (heard := self.hear())["ev"] != "done":
            assert heard["id"] == id_
            kind = "text" if heard["ev"] == "log" else heard["ev"]
            if ran.order[-1:] != [kind]:
                ran.order.append(kind)
            if kind == "picture":
                ran.pictures.append(self.content(heard["size"]))
            else:
                ran.text += heard["text"]
            if interrupt is not None:
                self.say({"op": "interrupt", "id": id_, "grace": interrupt})
                interrupt = None
        assert heard["id"] == id_
        ran.done = heard
        for file in heard["files"]:
            self.get(file["path"], file["size"])
        return ran

    def start(self, code: str, **limits: Any) -> str:
        id_ = next(self._ids)
        usual = {"seconds": 30, "max_output": 65536, "max_pictures": 20, "max_files": 100}
        self.say({"op": "exec", "id": id_, "code": code} | usual | limits)
        return id_

    def ask(self, operation: str, **fields: Any) -> Message:
        id_ = next(self._ids)
        self.say({"op": operation, "id": id_} | fields)
        heard = self.hear()
        assert heard["id"] == id_
        return heard

    def put(self, path: str, content: bytes, *, size: int | None = None) -> Message:
        id_ = next(self._ids)
        size = len(content) if size is None else size
        self.say({"op": "put", "id": id_, "path": path, "size": size})
        for start in range(0, len(content), 262144):
            self.send(DATA, content[start : start + 262144])
        heard = self.hear()
        assert heard["id"] == id_
        return heard

    def get(self, path: str, size: int) -> bytes | Message:
        """The bytes, or the refusal."""
        heard = self.ask("get", path=path, size=size)
        if heard["ev"] == "fail":
            return heard
        assert heard["size"] == size
        content = self.content(size)
        assert self.hear()["ev"] == "got"
        return content

    def say(self, message: Mapping[str, Any]) -> None:
        self.send(JSON, json.dumps(message).encode())

    def send(self, kind: int, content: bytes) -> None:
        self.write(HEAD.pack(len(content), kind) + content)

    def write(self, received: bytes) -> None:
        self._into.write(received)
        self._into.flush()

    def hear(self) -> Message:
        kind, content = self._frame()
        assert kind == JSON
        return json.loads(content)

    def content(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            kind, content = self._frame()
            assert kind == DATA
            received += content
        return bytes(received)

    def let_go(self) -> None:
        """Close its input."""
        self._into.close()

    def ended(self) -> bool:
        """Waits for the end of its output."""
        return self._out.read() == b""

    def _frame(self) -> tuple[int, bytes]:
        length, kind = HEAD.unpack(self._exactly(HEAD.size))
        assert length <= MAX_FRAME
        return kind, self._exactly(length)

    def _exactly(self, size: int) -> bytes:
        received = self._out.read(size)
        assert len(received) == size, "the driver has ended"
        return received


def flags(limits: Mapping[str, Any]) -> list[str]:
    """What the server asks the engine for, as `docker run` has it; a KeyError for what is not known here yet."""
    given = ["--hostname=sandbox", f"--user={USER}:{USER}"]
    for name, value in limits.items():
        given += [f"--{FLAGS[name]}={each}" for each in values(name, value)]
    return given


def values(name: str, value: Any) -> list[str]:
    match name:
        case "tmpfs":
            return [f"{path}:{options}" for path, options in value.items()]
        case "ulimits":
            return [f"{each.name}={each.soft}:{each.hard}" for each in value]
        case "log_config":
            return [value.type]
        case "nano_cpus":
            return [str(value / 1e9)]
        case _:
            several = cast("list[Any]", value) if isinstance(value, list) else [value]
            return [str(each).lower() if isinstance(each, bool) else str(each) for each in several]


@contextmanager
def driving() -> Generator[Driving]:
    """A container of its own."""
    command = ["docker", "run", "--interactive", *flags(limits(SETTINGS)), IMAGE]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        driver = Driving(process.stdin, process.stdout)
        assert driver.hear() == {"ev": "ready", "v": 1}
        yield driver
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(30)
