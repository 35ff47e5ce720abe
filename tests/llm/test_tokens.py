import gzip
import hashlib
import threading
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiktoken_ext import openai_public

from threadloom.tokens import CL100K, O200K, Tokens, Vocabulary, encoding_for, upper_bound

ADDRESS = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
BOTH = pytest.mark.parametrize("model", ["gpt-4", "gpt-4o"])


@pytest.mark.parametrize(
    ("vocabulary", "theirs"),
    [(CL100K, openai_public.cl100k_base), (O200K, openai_public.o200k_base)],
)
def test_the_vocabularies_are_tiktokens_own(
    vocabulary: Vocabulary,
    theirs: Callable[[], dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packed = files("threadloom") / "data" / "tiktoken" / f"{vocabulary.name}.tiktoken.gz"
    cached = hashlib.sha1(ADDRESS.format(vocabulary.name).encode()).hexdigest()
    (tmp_path / cached).write_bytes(gzip.decompress(packed.read_bytes()))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    expected = theirs()
    assert vocabulary.pattern == expected["pat_str"]
    assert vocabulary.special_tokens == expected["special_tokens"]


@pytest.mark.parametrize(
    ("model", "text", "count"),
    [
        ("gpt-4", "tiktoken is great!", 6),
        ("gpt-4o", "tiktoken is great!", 6),
        ("gpt-4", "お誕生日おめでとう", 9),
        ("gpt-4o", "お誕生日おめでとう", 8),
        ("gpt-4o", "", 0),
    ],
)
def test_counts_are_tiktokens(model: str, text: str, count: int) -> None:
    assert encoding_for(model).count(text) == count


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-3.5-turbo-0125", "cl100k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("ft:gpt-4:org", "cl100k_base"),
        ("gpt-4o-mini", "o200k_base"),
        ("ft:gpt-4o:org", "o200k_base"),
        ("gpt-4.1", "o200k_base"),
        ("gpt-5", "o200k_base"),
        ("o3", "o200k_base"),
        ("llama3.3", "o200k_base"),
    ],
)
def test_a_model_has_its_vocabulary(model: str, name: str) -> None:
    assert encoding_for(model).vocabulary.name == name


@BOTH
def test_text_that_looks_like_a_special_token_is_text(model: str) -> None:
    assert encoding_for(model).count("<|endoftext|>") > 1


@BOTH
def test_a_million_spaces_are_counted(model: str) -> None:
    assert encoding_for(model).count(" " * 1_000_000) > 0


def test_lone_surrogates_are_counted() -> None:
    assert upper_bound("\ud800") >= encoding_for("gpt-4o").count("\ud800") > 0


@BOTH
def test_long_prose_is_counted_as_one_text(model: str) -> None:
    tokens = encoding_for(model)
    paragraph = "The quick brown fox, aged 12, jumps.\n  It is indented here.\n\n"
    assert tokens.count(paragraph * 4000) == 4000 * tokens.count(paragraph)


@given(st.text(max_size=60), st.integers(0, 30))
def test_truncation_keeps_a_beginning_that_fits(text: str, n: int) -> None:
    tokens = encoding_for("gpt-4o")
    kept = tokens.truncate(text, n)
    assert text.startswith(kept)
    assert tokens.count(text) > n or kept == text


@given(st.text(max_size=60))
def test_the_upper_bound_is_never_too_low(text: str) -> None:
    assert upper_bound(text) >= encoding_for("gpt-4o").count(text)


def test_truncation_does_not_split_a_character() -> None:
    assert encoding_for("gpt-4o").truncate("👩‍👩‍👧‍👦" * 3, 3) == "👩‍"


def test_threads_share_one_vocabulary() -> None:
    tokens = Tokens(CL100K)
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda: counts.append(tokens.count("a b c"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [3, 3, 3, 3]
