"""all-MiniLM-L6-v2, the embedder that the package carries (ADR 0007), in whichever process loads it."""

import math
from collections.abc import Sequence
from importlib.resources import as_file, files
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from onnxruntime import (
    InferenceSession,
    SessionOptions,  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]
)
from tokenizers import Tokenizer

from threadloom.retrieval.embedder import Vector, Windows

MODEL = "all-MiniLM-L6-v2"
DIMENSIONS = 384
# The network was trained on 256 word pieces, two of which mark the beginning and the end.
WINDOW = 254
# A question longer than 2,000 word pieces is a document; its end would cost seconds and tell little.
QUERY_WINDOWS = 8


class MiniLM:
    """The network and its tokenizer; threads may share one."""

    def __init__(self) -> None:
        options = SessionOptions()  # pyright: ignore[reportUnknownVariableType]
        # Two windows in two threads are faster than one window cut in two.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        with as_file(files("threadloom") / "data" / "minilm") as folder:
            self._session = InferenceSession(
                folder / "model.onnx",
                options,  # pyright: ignore[reportUnknownArgumentType]
                providers=["CPUExecutionProvider"],
            )
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._begin, self._end = self._tokenizer.encode("").ids

    def query(self, text: str) -> Vector:
        """The mean direction of the windows."""
        vectors = [self.vector(window) for window in self.windows(text)[:QUERY_WINDOWS]]
        total: Vector = np.stack(vectors).sum(axis=0)
        return total / np.float32(np.linalg.norm(total))

    def passage(self, text: str) -> Windows:
        return np.stack([self.vector(window) for window in self.windows(text)])

    def windows(self, text: str) -> list[list[int]]:
        """The word pieces of `text` in as few windows as they fit in, of the same length within one."""
        pieces = self._tokenizer.encode(text, add_special_tokens=False).ids
        count = max(1, math.ceil(len(pieces) / WINDOW))
        ends = [len(pieces) * number // count for number in range(count + 1)]
        return [[self._begin, *pieces[start:end], self._end] for start, end in pairwise(ends)]

    def vector(self, window: Sequence[int]) -> Vector:
        """One window at a time: a batch is slower from 60 pieces on, and would let its rows change each other's vectors."""
        ids: NDArray[np.int64] = np.array([window], np.int64)
        vectors = self._session.run(["vectors"], {"ids": ids, "mask": np.ones_like(ids)})[0]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return np.asarray(vectors, np.float32)[0]
