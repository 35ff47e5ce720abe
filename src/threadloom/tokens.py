"""Counting tokens without a network: tiktoken with the vocabularies that the package carries."""

import base64
import gzip
import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

from tiktoken import Encoding

from threadloom.errors import StartError

CL100K_MODELS = re.compile(r"(ft:)?gpt-(4(?![.o]|-?\d*\.)|3|35)|text-embedding")
PIECE = 65_536


@dataclass(frozen=True)
class Vocabulary:
    """What tiktoken's own `tiktoken_ext.openai_public` says of an encoding; a test compares."""

    name: str
    sha256: str
    pattern: str
    special_tokens: dict[str, int]


CL100K = Vocabulary(
    name="cl100k_base",
    sha256="223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    pattern=(
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
    ),
    special_tokens={
        "<|endoftext|>": 100257,
        "<|fim_prefix|>": 100258,
        "<|fim_middle|>": 100259,
        "<|fim_suffix|>": 100260,
        "<|endofprompt|>": 100276,
    },
)

O200K = Vocabulary(
    name="o200k_base",
    sha256="446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    pattern=(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    special_tokens={"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
)


class Tokens:
    """Counts and cuts in one vocabulary, which is read at the first use; threads may share it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._encoding: Encoding | None = None
        self._lock = threading.Lock()

    def count(self, text: str) -> int:
        """Text that looks like a special token is counted as the text it is."""
        encode = self._loaded().encode_ordinary
        return sum(len(encode(piece)) for piece in pieces(text))

    def truncate(self, text: str, n: int) -> str:
        """The first `n` tokens; a character that the cut would split is left out."""
        if n <= 0:
            return ""
        if upper_bound(text) <= n:
            return text
        encoding = self._loaded()
        tokens: list[int] = []
        for piece in pieces(text):
            tokens += encoding.encode_ordinary(piece)
            if len(tokens) > n:
                return encoding.decode_bytes(tokens[:n]).decode("utf-8", errors="ignore")
        return text

    def _loaded(self) -> Encoding:
        if self._encoding is None:
            with self._lock:
                if self._encoding is None:
                    self._encoding = load(self.vocabulary)
        return self._encoding


def load(vocabulary: Vocabulary) -> Encoding:
    """The constructors of tiktoken would fetch the file; ours is package data."""
    return Encoding(
        vocabulary.name,
        pat_str=vocabulary.pattern,
        mergeable_ranks=read_ranks(vocabulary),
        special_tokens=vocabulary.special_tokens,
    )


def read_ranks(vocabulary: Vocabulary) -> dict[bytes, int]:
    packed = files("threadloom") / "data" / "tiktoken" / f"{vocabulary.name}.tiktoken.gz"
    content = gzip.decompress(packed.read_bytes())
    if hashlib.sha256(content).hexdigest() != vocabulary.sha256:
        raise StartError(f"The vocabulary {vocabulary.name} is damaged. Install Threadloom again.")
    pairs = (line.split() for line in content.splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


CL100K_TOKENS = Tokens(CL100K)
O200K_TOKENS = Tokens(O200K)


def encoding_for(model: str) -> Tokens:
    """The vocabulary of an OpenAI model; every other model is counted with the newest one."""
    return CL100K_TOKENS if CL100K_MODELS.match(model) else O200K_TOKENS


def pieces(text: str) -> Iterator[str]:
    """Long text in parts: tiktoken's regex engine panics on a run of some 500,000 spaces.

    The cuts are after line ends, where both patterns cut too, unless a part has none.
    """
    start = 0
    while len(text) - start > PIECE:
        end = text.rfind("\n", start, start + PIECE) + 1 or start + PIECE
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def upper_bound(text: str) -> int:
    """A cheap count that is never too low: no token is shorter than one byte."""
    return len(text.encode("utf-8", errors="surrogatepass"))
