"""A pool of parsers, as a worker has it."""

from collections.abc import AsyncGenerator

import pytest

from tests.retrieval.parsing.reading import Reader
from threadloom.config import FileSearch
from threadloom.retrieval.parsing.parsers import Parsers


@pytest.fixture
async def reader() -> AsyncGenerator[Reader]:
    parsers = Parsers(FileSearch(tables=True, parser_timeout=60))
    yield Reader(parsers)
    await parsers.close()
