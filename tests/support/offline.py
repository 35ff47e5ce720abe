"""`threadloom serve` in a network where whatever it sends to anywhere comes by on `lo`, and somebody who writes that down.

`python -m tests.support.offline` starts a server in a fresh namespace, has it do its main job, and prints what was said and sent.
"""

import asyncio
import json
import os
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path

from openai import OpenAI

from tests.support.namespace import bring_up, run_inside
from tests.support.process import KEY, serving

ABROAD = ("93.184.215.14", "2606:2800::1")
NAME = "telemetry.test"
ALL = 0x0003  # every protocol of the link
IPV4, IPV6 = 0x0800, 0x86DD
TCP, UDP, ICMPV6 = 6, 17, 58
SYN, ACK = 0x02, 0x10
BUFFER = 32 * 1024 * 1024
STATISTICS = 6  # PACKET_STATISTICS
SOL_PACKET = 263
SO_RCVBUFFORCE = 33
KEPT = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG")
QUESTION = "What does the harbour master keep in the lighthouse?"
DOCUMENT = b"The harbour master keeps forty-one brass lanterns in the lighthouse.\n"


@dataclass(frozen=True)
class Sent:
    """The beginning of a conversation: the first packet to a port of an address, `tcp` or `udp`, or anything else."""

    kind: str
    address: str
    port: int

    @property
    def is_local(self) -> bool:
        return ip_address(self.address).is_loopback


MARK = Sent("udp", "127.0.0.1", 9)
"""Sent by the watcher itself: what was sent before has been seen when this is."""


@dataclass(frozen=True)
class Told:
    """What the model answered, what was sent while it did, what the watcher saw of a trial before, and what it missed."""

    answer: str
    sent: tuple[Sent, ...]
    tried: tuple[Sent, ...]
    missed: int
    port: int
    left: tuple[str, ...] = ()
    """What it left in the home of its user."""


async def work_offline() -> Told:
    """Have a server do its main job in a network of its own."""
    # Not ours: some telemetry keeps still where it finds CI's variables or was told to.
    plain = {name: os.environ[name] for name in KEPT if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="threadloom-home-") as home:
        printed = await run_inside(
            sys.executable,
            *("-m", "tests.support.offline"),
            environment=plain | {"HOME": home},
            seconds=100,
        )
        left = await asyncio.to_thread(files_in, Path(home))
    told = json.loads(printed)
    for name in ("sent", "tried"):
        told[name] = tuple(Sent(**one) for one in told[name])
    return Told(**told, left=left)


def files_in(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(str(path.relative_to(folder)) for path in folder.rglob("*")))


class Watcher:
    """Sees every packet of the namespace."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ALL))
        # The namespace's root may not always have more than the machine allows everybody.
        with suppress(PermissionError):
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self._seen: set[Sent] = set()
        self._marked = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def take(self) -> tuple[Sent, ...]:
        """What was sent since the last time."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", (MARK.address, MARK.port))
        assert self._marked.wait(10)
        self._marked.clear()
        seen, self._seen = self._seen, set()
        return tuple(sorted(seen, key=str))

    @property
    def missed(self) -> int:
        """Packets that came too fast."""
        _, drops = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, STATISTICS, 8))
        return drops

    def _watch(self) -> None:
        while True:
            packet, (_, protocol, direction, *_) = self._socket.recvfrom(256)
            if direction != socket.PACKET_OUTGOING:  # on `lo` what leaves also arrives
                continue
            sent = beginning(protocol, packet)
            if sent == MARK:
                self._marked.set()
            elif sent is not None:
                self._seen.add(sent)


def beginning(protocol: int, packet: bytes) -> Sent | None:
    """None for what goes on with a conversation or answers one."""
    if protocol == IPV4:
        kind, address = packet[9], str(ip_address(packet[16:20]))
        rest = packet[(packet[0] & 0x0F) * 4 :]
    elif protocol == IPV6:
        kind, address = packet[6], str(ip_address(packet[24:40]))
        rest = packet[40:]
    else:
        return Sent(f"protocol {protocol}", "::", 0)
    if kind == TCP:
        return Sent("tcp", address, port_of(rest)) if rest[13] & (SYN | ACK) == SYN else None
    if kind == UDP:
        return Sent("udp", address, port_of(rest))
    # The kernel's own: port unreachable, neighbours.
    return None if kind in (1, ICMPV6) else Sent(f"ip {kind}", address, 0)


def port_of(segment: bytes) -> int:
    return int.from_bytes(segment[2:4], "big")


def try_everything() -> None:
    """What the watcher has to see, or it would not see a server do it either."""
    for address in ABROAD:
        with suppress(OSError):
            socket.create_connection((address, 443), timeout=1).close()
    with suppress(OSError):
        socket.getaddrinfo(NAME, 443)


def main_job(address: str) -> str:
    """A file is searched for the answer to a question."""
    with OpenAI(base_url=address, api_key=KEY, max_retries=0) as client:
        store = client.vector_stores.create(name="Harbour")
        client.vector_stores.files.upload_and_poll(
            vector_store_id=store.id, file=("harbour.txt", DOCUMENT)
        )
        assistant = client.beta.assistants.create(
            model="gpt-4o",
            tools=[{"type": "file_search"}],
            tool_resources={"file_search": {"vector_store_ids": [store.id]}},
        )
        thread = client.beta.threads.create(messages=[{"role": "user", "content": QUESTION}])
        run = client.beta.threads.runs.create_and_poll(
            thread_id=thread.id, assistant_id=assistant.id
        )
        assert run.status == "completed"
        message = client.beta.threads.messages.list(thread.id).data[0]
        return text_of(part.text.value for part in message.content if part.type == "text")


def text_of(parts: Iterable[str]) -> str:
    return "\n".join(parts)


def main() -> None:
    bring_up()
    watcher = Watcher()
    try_everything()
    tried = watcher.take()
    with (
        tempfile.TemporaryDirectory(prefix="threadloom-test-") as folder,
        serving(Path(folder)) as address,
    ):
        answer = main_job(address)
    port = int(address.rpartition(":")[2].removesuffix("/v1"))
    told = Told(answer, watcher.take(), tried, watcher.missed, port)
    said = {name: value for name, value in asdict(told).items() if name != "left"}
    print(json.dumps(said))  # noqa: T201 (this is what the parent reads)


if __name__ == "__main__":
    main()
