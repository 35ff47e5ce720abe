"""Backups: what is restored is what was there, on either database and storage."""

import asyncio
from pathlib import Path
from signal import SIGKILL
from typing import Any

import orjson
import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from tests.api.wire import get, make_file, post
from tests.faults.processes import until
from tests.keeping.places import Place, Places, migrated
from tests.keeping.world import everything, fill, hanging, new_thread, reaches, start_run
from tests.support.process import COMMAND, environment
from tests.support.s3 import running_s3
from tests.support.server import running_server
from threadloom.cli import cli
from threadloom.commands.backup import verify
from threadloom.db.engine import create_engine
from threadloom.db.migrate import revision_of, revisions
from threadloom.db.rows import StrayBlobRow, UsageRow
from threadloom.db.tx import Tx
from threadloom.errors import StartError
from threadloom.files.strays import HELD, HELD_FOR
from threadloom.files.sweeping import SKEW, sweep
from threadloom.keeping.backup import Hold, hold, holding_blobs, renew
from threadloom.keeping.layout import CHECKSUM, MANIFEST, read_manifest, write_manifest
from threadloom.testing import FakeSandbox, FrozenClock, LineParser, ScriptedModel, ScriptedModels

MARK = "zanzibar"


def used(tx: Tx) -> list[Any]:
    rows = tx.session.execute(select(*UsageRow.__table__.columns).order_by(UsageRow.part))
    return [tuple(row) for row in rows]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("sqlite", "sqlite"),
        ("postgresql", "postgresql"),
        ("sqlite", "postgresql"),
        ("postgresql", "sqlite"),
    ],
)
async def test_what_is_restored_is_what_was_there(places: Places, source: str, target: str) -> None:
    await assert_moved(migrated(places.new(source)), places.new(target))


async def test_files_in_s3_are_backed_up_and_restored(places: Places) -> None:
    with running_s3() as address:
        target = places.new("sqlite", s3=address)
        await assert_moved(migrated(places.new("sqlite", s3=address)), target)


async def assert_moved(first: Place, second: Place) -> None:
    backup = first.folder / "backup"
    model, sandbox = ScriptedModel(), FakeSandbox()
    settings = first.settings | {"runs": {"concurrency": 1, "lease": "1s"}}
    async with (
        running_server(
            first.url,
            ScriptedModels(model),
            settings=settings,
            sandbox=sandbox,
            parser=LineParser(),
        ) as server,
        server.http() as http,
    ):
        made = await fill(server, http, model, sandbox, MARK)
        endpoint = {
            "name": MARK,
            "url": "https://example.com",
            "event_types": ["thread.run.expired"],
        }
        await post(http, "/webhook_endpoints", endpoint)
        gone = await make_file(http, b"gone")
        await http.delete(f"/files/{gone['id']}")
        release = hanging(model)
        threads = [await new_thread(http, MARK) for _ in range(2)]
        running = await start_run(http, threads[0], made["assistant"])
        await until(lambda: model.remaining == 0, "the model is asked")
        queued = await start_run(http, threads[1], made["assistant"])
        path = f"/threads/{running['thread_id']}/runs/{running['id']}"
        assert (await get(http, path))["status"] == "in_progress"
        assert len(
            (await post(http, f"/vector_stores/{made['store']}/search", {"query": MARK}))["data"]
        )
        before = await everything(http, MARK)
        assert before[f"/vector_stores/{made['store']}/search"]
        spent = await server.database.read(used)
        manifest = orjson.loads(await first.command("backup", "create", str(backup), "--json"))
        assert manifest["missing_blobs"] == 0
        key = server.key
        release.set()
        model.says("Done.")
    await second.command("backup", "verify", str(backup))
    await second.command("backup", "restore", str(backup))
    async with still(second) as server, server.http(key) as http:
        assert await everything(http, MARK) == before
        assert await server.database.read(used) == spent
        later = await make_file(http, b"new")
        assert (await get(http, "/files", limit=1))["data"][0]["id"] == later["id"]
        older = await get(http, "/files", after=gone["id"])
        assert [one["id"] for one in older["data"]] == [one["id"] for one in before["files"][::-1]]
    again = ScriptedModel()
    for _ in range(3):
        again.says("Resumed.")
    async with (
        running_server(
            second.url, ScriptedModels(again), settings=second.settings, sandbox=FakeSandbox()
        ) as server,
        server.http(key) as http,
    ):
        outputs = [
            {"tool_call_id": one["id"], "output": "Rain."}
            for one in made["waits"]["required_action"]["submit_tool_outputs"]["tool_calls"]
        ]
        path = f"/threads/{made['waiting']}/runs/{made['waits']['id']}"
        await post(http, f"{path}/submit_tool_outputs", {"tool_outputs": outputs})
        for run in (made["waits"], running, queued):
            await reaches(http, run, "completed")


def still(place: Place) -> Any:
    """A server that only answers."""
    models = ScriptedModels(ScriptedModel())
    return running_server(place.url, models, settings=place.settings, with_worker=False)


async def small_backup(place: Place) -> Path:
    """Of a server with two files."""
    backup = place.folder / "backup"
    async with still(migrated(place)) as server, server.http() as http:
        for content in (b"one", b"two"):
            await make_file(http, content)
        await place.command("backup", "create", str(backup))
    return backup


def parts(backup: Path) -> list[Path]:
    return sorted(path for path in backup.rglob("*") if path.is_file())


def problem(backup: Path) -> str:
    """What `backup verify` would say first; nothing when the backup is whole."""
    try:
        _, faults = verify(backup)
    except StartError as error:
        return str(error)
    return next(iter(faults), "")


async def test_a_flipped_bit_is_found_wherever_it_is(places: Places) -> None:
    place = places.new("sqlite")
    backup = await small_backup(place)
    assert problem(backup) == ""
    assert len(parts(backup)) > 10
    for path in parts(backup):
        whole = path.read_bytes()
        for place_of_bit in range(0, len(whole), 1 + len(whole) // 5):
            damaged = bytearray(whole)
            damaged[place_of_bit] ^= 4
            path.write_bytes(damaged)
            assert "damaged" in problem(backup), (path, place_of_bit)
        path.write_bytes(whole)


async def test_a_missing_part_is_found(places: Places) -> None:
    place = places.new("sqlite")
    backup = await small_backup(place)
    for path in parts(backup):
        whole = path.read_bytes()
        path.unlink()
        assert "missing" in problem(backup) or "is no backup" in problem(backup), path
        path.write_bytes(whole)


async def test_a_wrong_count_is_found(places: Places) -> None:
    backup = await small_backup(places.new("sqlite"))
    manifest = read_manifest(backup)
    manifest.tables["files"].lines += 1
    for name in (MANIFEST, CHECKSUM):
        (backup / name).unlink()
    write_manifest(backup, manifest)
    assert problem(backup) == "rows/files.jsonl.gz has 2 lines, and not 3."


async def test_a_damaged_backup_ends_verify_with_1_and_is_not_restored(places: Places) -> None:
    place = places.new("sqlite")
    backup = await small_backup(place)
    (one, _) = (backup / "blobs").glob("*/*")
    one.write_bytes(b"ONE")
    result = CliRunner().invoke(cli, ["backup", "verify", str(backup), "--json"])
    assert result.exit_code == 1
    assert orjson.loads(result.stdout)["faults"] == [f"{one.relative_to(backup)} is damaged."]
    target = places.new("sqlite")
    with pytest.raises(StartError, match="nothing was restored"):
        await target.command("backup", "restore", str(backup))
    assert not parts(target.folder)


async def test_a_backup_is_restored_into_nothing_but_an_empty_database(places: Places) -> None:
    backup = await small_backup(places.new("sqlite"))
    target = migrated(places.new("sqlite"))
    async with still(target) as server, server.http() as http:
        own = await make_file(http, b"own")
        await http.delete(f"/files/{(await make_file(http, b'stray'))['id']}")
    with pytest.raises(StartError, match="not empty"):
        await target.command("backup", "restore", str(backup))
    async with still(target) as server, server.http() as http:
        assert (await get(http, "/files"))["data"][0]["id"] == own["id"]
    await target.command("backup", "restore", str(backup), "--force")
    assert await contents(target) == [b"two", b"one"]


async def contents(place: Place) -> list[bytes]:
    """Of the files that a server has, the newest first."""
    async with still(place) as server, server.http() as http:
        files = (await get(http, "/files"))["data"]
        return [(await http.get(f"/files/{one['id']}/content")).content for one in files]


async def killed(place: Place, fault: str, *arguments: str) -> None:
    """A command that dies at a named point."""
    variables = environment(**place.environment, THREADLOOM_FAULT=fault + ":kill")
    process = await asyncio.create_subprocess_exec(COMMAND, *arguments, env=variables)
    assert await process.wait() == -SIGKILL


async def test_a_restore_that_was_killed_changed_nothing_and_is_done_again(places: Places) -> None:
    backup = await small_backup(places.new("sqlite"))
    target = migrated(places.new("sqlite"))
    async with still(target) as server, server.http() as http:
        await make_file(http, b"own")
    restore = ("backup", "restore", str(backup), "--force")
    for fault in ("restore.blobs:1", "restore.rows:5"):
        await killed(target, fault, *restore)
        assert await contents(target) == [b"own"]
    await target.command(*restore)
    assert await contents(target) == [b"two", b"one"]


async def test_a_killed_restore_leaves_an_empty_database_empty(places: Places) -> None:
    backup = await small_backup(places.new("sqlite"))
    target = places.new("postgresql")
    restore = ("backup", "restore", str(backup))
    await killed(target, "restore.rows:5", *restore)
    await target.command(*restore)
    assert await contents(target) == [b"two", b"one"]


async def test_nobody_restores_under_a_running_server(places: Places) -> None:
    backup = await small_backup(places.new("sqlite"))
    target = migrated(places.new("sqlite"))
    engine = create_engine(target.url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO processes VALUES ('proc_1', 'both', 'here', 1, '1', 0, unixepoch())"
        )
    engine.dispose()
    with pytest.raises(StartError, match="stop them first"):
        await target.command("backup", "restore", str(backup), "--force")
    assert not parts(target.folder / "files")


async def test_a_backup_does_not_take_the_place_of_another(places: Places) -> None:
    place = places.new("sqlite")
    backup = await small_backup(place)
    with pytest.raises(StartError, match="there already"):
        await place.command("backup", "create", str(backup))
    assert [one.name for one in backup.parent.iterdir() if "unfinished" in one.name] == []


async def test_a_backup_without_bytes_of_files_does_not_look_whole(places: Places) -> None:
    place = migrated(places.new("sqlite"))
    async with still(place) as server, server.http() as http:
        for content in (b"one", b"two"):
            await make_file(http, content)
        (first, second) = (one for one in parts(place.folder / "files") if one.stat().st_size == 3)
    first.unlink()
    backup = place.folder / "backup"
    arguments = ["backup", "create", str(backup)]
    result = await asyncio.to_thread(CliRunner().invoke, cli, arguments, env=place.environment)
    assert (result.exit_code, "1 files have no bytes" in result.stderr) == (1, True)
    result = CliRunner().invoke(cli, ["backup", "verify", str(backup), "--json"])
    assert result.exit_code == 1
    assert orjson.loads(result.stdout)["faults"] == ["1 files had no bytes when it was made."]
    target = places.new("sqlite")
    await target.command("backup", "restore", str(backup))
    async with still(target) as server, server.http() as http:
        assert len((await get(http, "/files"))["data"]) == 2
    second.unlink()
    with pytest.raises(StartError, match="None of the files has its bytes"):
        await place.command("backup", "create", str(place.folder / "other"))
    assert not (place.folder / "other").exists()


async def test_a_renewal_that_failed_is_tried_again_and_one_too_late_is_told(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_engine(migrated(places.new("sqlite")).url)
    clock, tried, failing = FrozenClock(), asyncio.Semaphore(0), [True, True]

    def renew_later(*of: Any) -> None:
        tried.release()
        if failing and failing.pop():
            raise OperationalError("UPDATE", {}, Exception("locked"))
        renew(*of)

    monkeypatch.setattr("threadloom.keeping.backup.RENEW_EVERY", 0.01)
    monkeypatch.setattr("threadloom.keeping.backup.renew", renew_later)
    async with holding_blobs(engine, clock):
        for _ in range(4):
            await asyncio.wait_for(tried.acquire(), 10)
    late = holding_blobs(engine, clock)
    await late.__aenter__()
    clock.advance(HELD_FOR + 1)
    for _ in range(2):
        await asyncio.wait_for(tried.acquire(), 10)
    with pytest.raises(StartError, match="nothing was kept"):
        await late.__aexit__(None, None, None)
    engine.dispose()


async def test_what_cannot_be_backed_up_is_told_in_a_sentence(places: Places) -> None:
    place = places.new("sqlite")
    with pytest.raises(StartError, match="There is no database at"):
        await place.command("backup", "create", str(place.folder / "backup"))
    with pytest.raises(StartError, match="is no backup"):
        await place.command("backup", "verify", str(place.folder))
    with pytest.raises(StartError, match="is no backup"):
        await place.command("backup", "restore", str(place.folder))


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_a_backup_of_an_older_schema_is_restored_and_brought_up_to_date(
    places: Places, database: str
) -> None:
    backup = await small_backup(places.new("sqlite"))
    date_back(backup, "0004")
    target = places.new(database)
    await target.command("backup", "restore", str(backup))
    engine = create_engine(target.url)
    with engine.connect() as connection:
        assert revision_of(connection) == revisions()[0]
    engine.dispose()
    async with still(target) as server, server.http() as http:
        assert len((await get(http, "/files"))["data"]) == 2


async def test_a_backup_of_a_newer_schema_is_refused(places: Places) -> None:
    backup = await small_backup(places.new("sqlite"))
    date_back(backup, "9999")
    with pytest.raises(StartError, match=r"newer than this program \(its schema is 9999\)"):
        await places.new("sqlite").command("backup", "restore", str(backup))


def date_back(backup: Path, revision: str) -> None:
    manifest = read_manifest(backup).model_copy(update={"schema_revision": revision})
    for name in (MANIFEST, CHECKSUM):
        (backup / name).unlink()
    write_manifest(backup, manifest)


async def test_what_is_deleted_during_a_backup_keeps_its_bytes_until_its_end(
    database_url: str,
) -> None:
    clock = FrozenClock()
    models = ScriptedModels(ScriptedModel())
    async with (
        running_server(database_url, models, clock=clock, with_worker=False) as server,
        server.http() as http,
    ):
        files = server.context.settings.data_dir / "files"
        file = await make_file(http, b"text")
        async with holding_blobs(server.database.engine, clock):
            await http.delete(f"/files/{file['id']}")
            clock.advance(SKEW + 1)
            await sweep(server.database, server.context.blobs)
            assert len(parts(files)) == 1
        await sweep(server.database, server.context.blobs)
        assert not parts(files)


async def test_a_backup_that_died_holds_nothing_for_long(database_url: str) -> None:
    clock = FrozenClock()
    models = ScriptedModels(ScriptedModel())
    async with (
        running_server(database_url, models, clock=clock, with_worker=False) as server,
        server.http() as http,
    ):
        hold(server.database.engine, Hold(f"{HELD}1", clock.now() + HELD_FOR))
        await http.delete(f"/files/{(await make_file(http, b'text'))['id']}")
        clock.advance(HELD_FOR + SKEW)
        await sweep(server.database, server.context.blobs)
        assert not parts(server.context.settings.data_dir / "files")
        assert (
            await server.database.read(lambda tx: tx.session.scalar(select(StrayBlobRow))) is None
        )
