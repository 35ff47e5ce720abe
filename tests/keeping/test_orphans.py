"""`threadloom db orphans`: what belongs to nothing is found, and removed only where that is safe."""

import subprocess
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from tests.api.wire import get, make_file
from tests.keeping.places import Place, Places, migrated
from tests.support.process import COMMAND, environment
from tests.support.server import running_server
from threadloom.db.engine import connect, create_engine
from threadloom.errors import StartError
from threadloom.testing import ScriptedModel, ScriptedModels

KEY = f"ab/{'c' * 38}"


async def orphans(place: Place, *arguments: str) -> dict[str, Any]:
    return orjson.loads(await place.command("db", "orphans", "--json", *arguments))


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_what_belongs_to_nothing_is_found_and_deleted(places: Places, database: str) -> None:
    place = migrated(places.new(database))
    models = ScriptedModels(ScriptedModel())
    async with (
        running_server(place.url, models, settings=place.settings, with_worker=False) as server,
        server.http() as http,
    ):
        kept, lost = [await make_file(http, content) for content in (b"kept", b"lost")]
        await http.delete(f"/files/{(await make_file(http, b'stray'))['id']}")
        files = place.folder / "files"
        (missing,) = [one for one in files.glob("*/*") if one.read_bytes() == b"lost"]
        missing.unlink()
        blob = files / KEY
        blob.parent.mkdir(exist_ok=True)
        blob.write_bytes(b"orphan")
        foreign = files / "readme.txt"
        foreign.write_text("not ours")
        index = place.folder / "index" / "vs_gone.index"
        index.parent.mkdir()
        index.write_bytes(b"index")
        found = await orphans(place)
        assert found["blobs"] == [KEY]
        assert found["missing_blobs"] == [str(missing.relative_to(files))]
        assert found["index_files"] == [str(index)]
        with pytest.raises(StartError, match="say --yes"):
            await orphans(place, "--delete")
        await orphans(place, "--delete", "--yes")
        assert not blob.exists()
        assert not index.exists()
        assert foreign.exists()
        after = await orphans(place)
        assert (after["blob_count"], after["missing_count"], after["index_files"]) == (0, 1, [])
        assert [one["id"] for one in (await get(http, "/files"))["data"]] == [
            lost["id"],
            kept["id"],
        ]
        assert (await http.get(f"/files/{kept['id']}/content")).content == b"kept"


PAGES = {
    "sqlite": "PRAGMA freelist_count",
    "postgresql": "SELECT pg_relation_filenode('alembic_version')",
}
"""What is another number once all pages were written anew."""


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_a_database_is_written_anew(places: Places, database: str) -> None:
    place = migrated(places.new(database))
    engine = create_engine(place.url)
    with connect(engine, write=True) as connection, connection.begin():
        connection.execute(text("CREATE TABLE deleted (id INTEGER)"))
        connection.execute(text("INSERT INTO deleted VALUES (1)"))
        connection.execute(text("DROP TABLE deleted"))
    with connect(engine) as connection:
        before = connection.scalar(text(PAGES[database]))
    engine.dispose()
    await place.command("db", "compact")
    with connect(engine) as connection:
        assert before
        assert connection.scalar(text(PAGES[database])) != before
    engine.dispose()


def test_a_database_without_room_for_it_is_left_as_it_was(places: Places) -> None:
    place = migrated(places.new("sqlite"))
    engine = create_engine(place.url)
    with connect(engine, write=True) as connection, connection.begin():
        connection.execute(text("CREATE TABLE kept AS SELECT randomblob(4000000) AS bytes"))
    refused = subprocess.run(
        ["bash", "-c", f"ulimit -f 1000; exec {COMMAND} db compact"],  # no file larger than that
        env=environment(**place.environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith("The database is as it was"), refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    with connect(engine) as connection:
        assert connection.scalar(text("SELECT length(bytes) FROM kept")) == 4_000_000
    engine.dispose()
