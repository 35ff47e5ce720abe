"""A process that reads documents, one after the other, and nothing else: `python -m …process MEMORY`.

Requests come on its input, replies leave on its output. It ends when its input does, so that it never outlives its owner,
also when that was killed.
"""

import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import BinaryIO

from threadloom.retrieval.parsing import Chunk, UnreadableFile
from threadloom.retrieval.parsing.chunks import chunks_of
from threadloom.retrieval.parsing.confinement import (
    allow_processor_time,
    confine,
    largest_size,
)
from threadloom.retrieval.parsing.extraction import extract
from threadloom.retrieval.parsing.formats import format_of
from threadloom.retrieval.parsing.frames import (
    LENGTHS,
    Reply,
    Request,
    frame,
    pack_chunks,
    request_in,
)
from threadloom.retrieval.parsing.sections import DAMAGED, invalid
from threadloom.tokens import CL100K_TOKENS
from threadloom.types.vector_stores import StaticChunking

GROUP = 64
STACK = 256 * 1024
WORN_AFTER = 2_000


def main() -> None:
    # Who stops the server may signal all its processes; a document must not fail of that.
    for ending in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(ending, signal.SIG_IGN)
    requests, replies = take_streams()
    threading.stack_size(STACK)
    memory = int(sys.argv[1])
    CL100K_TOKENS.count("The vocabulary is read before anybody waits.")
    confine(memory)
    enough = largest_size() + memory // 4
    waiting: queue.SimpleQueue[Request] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(requests, waiting), daemon=True).start()
    send(replies, frame({"type": "ready"}))
    for served in count(1):
        last = read(waiting.get(), replies)
        last["worn"] = served >= WORN_AFTER or largest_size() > enough
        send(replies, frame(last))


def take_streams() -> tuple[BinaryIO, BinaryIO]:
    """Our pipes for ourselves: what a library prints goes nowhere."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    return requests, replies


def listen(requests: BinaryIO, waiting: "queue.SimpleQueue[Request]") -> None:
    """Ends the process with its input, whatever it is doing."""
    while len(lengths := requests.read(LENGTHS.size)) == LENGTHS.size:
        head, _ = LENGTHS.unpack(lengths)
        waiting.put(request_in(requests.read(head)))
    os._exit(0)


def read(request: Request, replies: BinaryIO) -> Reply:
    """Sends the document's chunks in groups; gives what is to be said last."""
    allow_processor_time(request["cpu_seconds"])
    try:
        for chunks, progress in groups(request):
            send(replies, pack_chunks(chunks, progress))
    except UnreadableFile as error:
        return failed(error)
    except MemoryError:
        return failed(invalid("reading it needs too much memory. Split it into smaller files."))
    except RecursionError:
        return failed(invalid("it is nested too deeply."))
    except OSError as error:
        reason = UnreadableFile("server_error", "The file could not be read. Try again later.")
        return failed(reason, error)
    # The outermost loop: the libraries raise whatever a damaged document makes them trip over.
    except Exception as error:  # noqa: BLE001
        return failed(invalid(DAMAGED), error)
    return {"type": "done"}


def send(replies: BinaryIO, message: bytes) -> None:
    replies.write(message)
    replies.flush()


def failed(reason: UnreadableFile, fault: Exception | None = None) -> Reply:
    """`fault` is for the operator: its kind only, because its text may be the document's."""
    return {
        "type": "failed",
        "code": reason.code,
        "message": reason.message,
        "fault": type(fault).__name__ if fault else "",
    }


def groups(request: Request) -> Iterator[tuple[list[Chunk], float]]:
    """The document's chunks and how far they reach."""
    kind = format_of(request["filename"], tables=request["tables"])
    assert kind is not None, "the owner asks for supported files only"
    chunking = StaticChunking(
        max_chunk_size_tokens=request["max_chunk_size_tokens"],
        chunk_overlap_tokens=request["chunk_overlap_tokens"],
    )
    sections = extract(Path(request["path"]), kind, chunking.max_chunk_size_tokens)
    chunks = chunks_of(sections, chunking, request["max_tokens"])
    while group := [*islice(chunks, GROUP)]:
        yield [chunk for chunk, _ in group], group[-1][1]


if __name__ == "__main__":
    main()
