"""Fixtures: places for servers' data."""

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.keeping.places import Places


@pytest.fixture
def places(tmp_path: Path, request: pytest.FixtureRequest) -> Generator[Places]:
    made = Places(tmp_path, request)
    yield made
    made.close()
