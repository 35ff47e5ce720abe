"""Files made to do harm end with a reason, or as chunks, in time; the process that asked does not feel them."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.retrieval.parsing.processes import children, resident
from tests.retrieval.parsing.reading import DEFAULT
from tests.support.hostile import HOSTILE
from threadloom.config import FileSearch
from threadloom.retrieval.parsing import Parsed, UnreadableFile
from threadloom.retrieval.parsing.parsers import Parsers
from threadloom.tokens import CL100K_TOKENS

pytestmark = pytest.mark.asyncio(loop_scope="module")

MEGABYTE = 1024 * 1024
GROWTH = 50 * MEGABYTE
MEMORY = 512 * MEGABYTE


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def parsers() -> AsyncGenerator[Parsers]:
    """For the whole corpus: what one file breaks would be felt by the next."""
    before = children()
    settings = FileSearch(
        tables=True, parsers=1, parser_timeout=40, parser_memory=MEMORY, max_tokens=3_000_000
    )
    pool = Parsers(settings)
    yield pool
    await pool.close()
    assert children() == before


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_file_does_no_harm(name: str, parsers: Parsers, tmp_path: Path) -> None:
    hostile = HOSTILE[name]
    path = tmp_path / hostile.filename
    hostile.make(path)
    others, before = children(), resident()
    groups = parsers.parse(path, hostile.filename, DEFAULT)
    if hostile.says is None:
        assert await drain(groups) > 0
    else:
        with pytest.raises(UnreadableFile, match=hostile.says) as caught:
            await drain(groups)
        assert caught.value.code in {"invalid_file", "unsupported_file"}
    assert resident() - before < GROWTH
    assert len(children() - others) <= 1


async def drain(groups: AsyncGenerator[Parsed]) -> int:
    """How many chunks there are, each of which is well-formed."""
    count = 0
    async for parsed in groups:
        count += len(parsed.chunks)
        for chunk in parsed.chunks:
            assert chunk.text.strip() == chunk.text != ""
            assert "\0" not in chunk.text
            assert CL100K_TOKENS.count(chunk.text) <= DEFAULT.max_chunk_size_tokens
            chunk.text.encode()
    return count
