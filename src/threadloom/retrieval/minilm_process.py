"""The process that embeds passages: texts in, windows out, until its standard input ends.

    python -m threadloom.retrieval.minilm_process

A request is a JSON list of texts. Its answer has the number of windows of each text (uint32), then all windows (float32).
"""

import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import BinaryIO

import numpy as np
import orjson

from threadloom.retrieval.embedder import Vector, Windows
from threadloom.retrieval.frames import read_message, write_message
from threadloom.retrieval.minilm import DIMENSIONS, MiniLM


def main() -> None:
    # A print of some library would break the frames.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with suppress(BrokenPipeError, KeyboardInterrupt):
        serve(sys.stdin.buffer, answers)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """A request is taken up while the one before is still computed, so that no processor waits between the two."""
    network = MiniLM()
    with ThreadPoolExecutor(os.cpu_count()) as threads, ThreadPoolExecutor(1) as writer:
        while (request := read_message(requests)) is not None:
            windows = [network.windows(text) for text in orjson.loads(request)]
            flat = [window for of_text in windows for window in of_text]
            vectors = threads.map(network.vector, flat)  # begins at once
            counts = [len(of_text) for of_text in windows]
            writer.submit(send, answers, counts, vectors).add_done_callback(leave_if_failed)


def send(answers: BinaryIO, counts: Sequence[int], vectors: Iterable[Vector]) -> None:
    write_message(answers, answer(counts, vectors))


def leave_if_failed(sent: "Future[None]") -> None:
    """An answer that never comes would leave the server waiting; a process that ended is replaced."""
    if sent.exception():
        os._exit(1)


def answer(counts: Sequence[int], vectors: Iterable[Vector]) -> bytes:
    return np.array(counts, "<u4").tobytes() + np.concatenate([*vectors]).astype("<f4").tobytes()


def read_answer(message: bytes, texts: int) -> list[Windows]:
    """The windows of each of so many texts."""
    counts = np.frombuffer(message, "<u4", texts)
    windows = np.frombuffer(message, "<f4", offset=counts.nbytes).reshape(-1, DIMENSIONS)
    return np.split(windows, np.cumsum(counts)[:-1])


if __name__ == "__main__":
    main()
