"""Processes say that they are there, and are forgotten when they are not."""

import asyncio
import json
import os
import socket
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.faults.processes import Fleet, until
from tests.operate.arena import Done, run, settings_of
from tests.support.server import Running, running_server
from threadloom import __version__, processes
from threadloom.db.rows import ProcessRow
from threadloom.db.tx import Tx
from threadloom.errors import StartError
from threadloom.testing import FrozenClock, ScriptedModel, ScriptedModels


def known(tx: Tx) -> list[ProcessRow]:
    return list(processes.processes(tx))


async def test_a_process_is_seen_while_it_runs_and_gone_when_it_ends(server: Running) -> None:
    async with processes.present(server.database, "worker"):
        await until(lambda: server.database.read(known), "it said so")
        (row,) = await server.database.read(known)
        assert (row.kind, row.host, row.pid) == ("worker", socket.gethostname(), os.getpid())
        assert row.version == __version__
    assert await server.database.read(known) == []


async def test_a_process_that_was_killed_is_lost_and_then_forgotten(database_url: str) -> None:
    clock = FrozenClock()
    models = ScriptedModels(ScriptedModel())
    async with running_server(database_url, models, clock=clock, with_worker=False) as server:
        database = server.database
        killed = processes.Process("proc_1", "both", "there", 7, "0.0.1", clock.now())
        await database.write(processes.beat, killed)
        clock.advance(processes.BEAT + 1)
        (row,) = await database.read(known)
        assert processes.is_alive(row, clock.now())
        clock.advance(30)
        (row,) = await database.read(known)
        assert not processes.is_alive(row, clock.now())
        clock.advance(processes.FORGET_AFTER)
        other = processes.Process("proc_2", "api", "here", 8, "0.0.1", clock.now())
        await database.write(processes.beat, other)
        assert await database.read(all_ids) == ["proc_2"]
        await database.write(processes.beat, killed)  # it was only frozen
        assert await database.read(all_ids) == ["proc_1", "proc_2"]


def all_ids(tx: Tx) -> list[str]:
    return list(tx.session.execute(text("SELECT id FROM processes ORDER BY id")).scalars())


async def test_a_heartbeat_survives_a_database_that_is_away(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "BEAT", 0.02)
    database = server.database
    async with processes.present(database, "both"):
        await until(lambda: database.read(known), "it said so")
        await database.write(
            lambda tx: tx.session.execute(text("ALTER TABLE processes RENAME TO away"))
        )
        await asyncio.sleep(0.1)
        await database.write(
            lambda tx: tx.session.execute(text("ALTER TABLE away RENAME TO processes"))
        )
        (before,) = await database.read(known)
        await until(lambda: beats_again(server, before.seen_at), "it went on")
    assert await database.read(known) == []


async def beats_again(server: Running, before: float) -> bool:
    (row,) = await server.database.read(known)
    return row.seen_at > before


async def healthy(variables: dict[str, str], *arguments: str) -> Done:
    done = await run(variables, "healthcheck", *arguments)
    assert done.exception is None or isinstance(done.exception, StartError)
    return done


async def test_containers_ask_a_server_and_a_worker_whether_they_are_well(
    sqlite_url: str, tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path, sqlite_url, None)
    variables = {"THREADLOOM_DATABASE__URL": sqlite_url, "THREADLOOM_DATA_DIR": str(tmp_path)}
    try:
        server, worker = fleet.serve(with_worker=False), fleet.worker("one")
        await asyncio.gather(server.ready(), worker.ready())
        variables["THREADLOOM_SERVER__PORT"] = str(server.port)
        assert (await healthy(variables)).code == 0
        await until(lambda: worker_is_well(variables), "the worker said that it is there")
        status = json.loads((await run(variables, "status", "--json")).output)
        assert {(one["kind"], one["pid"]) for one in status["processes"]} == {
            ("api", server.pid),
            ("worker", worker.pid),
        }
        worker.terminate()
        server.terminate()
        assert await worker.ended(within=20) == 0
        assert await server.ended(within=20) == 0
        for arguments, sentence in (
            ((), f"Nothing answers at 127.0.0.1:{server.port}"),
            (("--worker",), "The database knows of no worker on"),
        ):
            done = await healthy(variables, *arguments)
            assert done.code == 1
            assert sentence in str(done.exception)
    finally:
        fleet.stop()


async def worker_is_well(variables: dict[str, str]) -> bool:
    return (await healthy(variables, "--worker")).code == 0


async def test_a_worker_that_was_lost_is_not_well(server: Running) -> None:
    host, now = socket.gethostname(), server.database.clock.now()
    lost = processes.Process("proc_1", "worker", host, 7, "0", now)
    await server.database.write(processes.beat, lost)
    assert (await healthy(settings_of(server), "--worker")).code == 0
    await server.database.write(set_back, 60)
    done = await healthy(settings_of(server), "--worker")
    assert "was last seen 6" in str(done.exception)


def set_back(tx: Tx, seconds: float) -> None:
    tx.session.execute(
        text("UPDATE processes SET seen_at = seen_at - :seconds"), {"seconds": seconds}
    )
