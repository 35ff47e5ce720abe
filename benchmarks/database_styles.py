"""What one insert and one page cost: async sessions on aiosqlite, and our actions on the database's own threads.

    python -m benchmarks.database_styles [--operations 1000]

The first style needs `aiosqlite` and `greenlet`, which the project does not use: without them it is left out.
"""

import argparse
import asyncio
import importlib.util
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop
from sqlalchemy import event, select
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine

from threadloom.clock import SystemClock
from threadloom.db.database import Database
from threadloom.db.migrate import upgrade
from threadloom.db.rows import MessageRow, ProjectRow, ThreadRow
from threadloom.db.tx import PageQuery, ProjectTx
from threadloom.ids import RandomIds
from threadloom.runs.threads import add_message, create_thread
from threadloom.types.messages import MessageCreate, text_content
from threadloom.types.threads import ThreadCreate

PROJECT = "proj_1"
BODY = MessageCreate(role="user", content="How are you?")
Operation = Callable[[], Awaitable[Any]]


def make_project(tx: ProjectTx) -> str:
    tx.session.add(ProjectRow(id=PROJECT, name="default", created_at=tx.now))
    tx.session.flush()
    return create_thread(tx, ThreadCreate(messages=[BODY] * 20), tables=False).id


def insert_action(tx: ProjectTx, thread_id: str) -> None:
    add_message(tx, tx.get(ThreadRow, thread_id), BODY)


def orm_insert_action(tx: ProjectTx, thread_id: str) -> None:
    """The same with the unit of work, as the other style does it."""
    tx.session.add(new_message(tx.get(ThreadRow, thread_id).id, tx.ids.new("msg_")))


def new_message(thread_id: str, message_id: str) -> MessageRow:
    return MessageRow(
        id=message_id,
        project_id=PROJECT,
        thread_id=thread_id,
        created_at=1_700_000_000,
        status="completed",
        role="user",
        content=[text_content("How are you?")],
        attachments=[],
        metadata_={},
    )


async def measured(style: str, name: str, operation: Operation, operations: int) -> None:
    """One at a time, then 32 at once: processor time of the whole process."""
    for clients in (1, 32):
        await asyncio.gather(*(operation() for _ in range(clients)))
        before = time.process_time()
        for _ in range(operations // clients):
            await asyncio.gather(*(operation() for _ in range(clients)))
        spent = (time.process_time() - before) / (operations // clients * clients)
        print(f"{style:<28} {name:<16} {clients:>2} at once  {spent * 1e6:8.0f} us CPU")


async def actions(database: Database, thread_id: str, operations: int) -> None:
    project = database.project(PROJECT)
    style = "db.read, db.write"
    await measured(style, "insert", lambda: project.write(insert_action, thread_id), operations)
    await measured(
        style, "insert by ORM", lambda: project.write(orm_insert_action, thread_id), operations
    )
    await measured(
        style,
        "page of 20",
        lambda: project.read(ProjectTx.page, MessageRow, PageQuery(), thread_id=thread_id),
        operations,
    )


async def async_sessions(engine: AsyncEngine, thread_id: str, operations: int) -> None:
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    ids, style = RandomIds(), "AsyncSession on aiosqlite"
    lock = asyncio.Lock()  # SQLite has one writer

    async def insert() -> None:
        async with lock, sessions.begin() as session:
            thread = (
                await session.scalars(select(ThreadRow).where(ThreadRow.id == thread_id))
            ).one()
            session.add(new_message(thread.id, ids.new("msg_")))

    async def page() -> None:
        async with sessions() as session:
            newest = select(MessageRow).where(MessageRow.thread_id == thread_id)
            await session.scalars(newest.order_by(MessageRow.seq.desc()).limit(20))

    await measured(style, "insert", insert, operations)
    await measured(style, "page of 20", page, operations)


async def compared(operations: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "styles.db"
        database = Database(f"sqlite:///{path}", clock=SystemClock(), ids=RandomIds())
        upgrade(database.engine)
        thread_id = await database.project(PROJECT).write(make_project)
        await actions(database, thread_id, operations)
        await database.close()
        if not all(map(importlib.util.find_spec, ("aiosqlite", "greenlet"))):
            print(
                "aiosqlite and greenlet are not installed: the other style is left out",
                file=sys.stderr,
            )
            return
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
        event.listen(engine.sync_engine, "connect", prepare)
        await async_sessions(engine, thread_id, operations)
        await engine.dispose()


def prepare(connection: Any, _: object) -> None:
    """The same pragmas as ours."""
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.database_styles")
    parser.add_argument("--operations", type=int, default=1000)
    uvloop.run(compared(parser.parse_args().operations))
