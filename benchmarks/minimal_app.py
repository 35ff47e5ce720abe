"""The plain way to serve three of the routes: FastAPI, SQLAlchemy's ORM, synchronous sessions, SQLite.

It has no keys, no checks and no errors in OpenAI's words: what it costs is the floor of that style.
"""

import secrets
from collections.abc import Generator
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import JSON, create_engine, event, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

engine = create_engine("sqlite:///minimal.db")
sessions = sessionmaker(engine, expire_on_commit=False)


@event.listens_for(engine, "connect")
def prepare(connection: DBAPIConnection, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")


class Row(DeclarativeBase):
    """A table with JSON columns."""

    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON}  # noqa: RUF012


class RunRow(Row):
    """A run."""

    __tablename__ = "runs"

    seq: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    thread_id: Mapped[str]
    created_at: Mapped[int]
    status: Mapped[str]
    model: Mapped[str]
    instructions: Mapped[str]
    tools: Mapped[list[Any]]
    metadata_: Mapped[dict[str, Any]]
    usage: Mapped[dict[str, Any] | None] = mapped_column(JSON)


class MessageRow(Row):
    """A message."""

    __tablename__ = "messages"

    seq: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    thread_id: Mapped[str] = mapped_column(index=True)
    created_at: Mapped[int]
    role: Mapped[str]
    content: Mapped[list[Any]]
    metadata_: Mapped[dict[str, Any]]


class Run(BaseModel):
    """A run as it is sent."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    thread_id: str
    created_at: int
    status: str
    model: str
    instructions: str
    tools: list[Any]
    metadata: dict[str, Any] = Field(validation_alias="metadata_")
    usage: dict[str, Any] | None


class MessageCreate(BaseModel):
    """A message as it is received."""

    role: str
    content: str


class Message(BaseModel):
    """A message as it is sent."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    thread_id: str
    created_at: int
    role: str
    content: list[Any]
    metadata: dict[str, Any] = Field(validation_alias="metadata_")


def open_session() -> Generator[Session]:
    with sessions() as session:
        yield session


Db = Annotated[Session, Depends(open_session)]
app = FastAPI()


@app.get("/threads/{thread_id}/runs/{run_id}")
def get_run(thread_id: str, run_id: str, db: Db) -> Run:
    run = db.scalars(select(RunRow).where(RunRow.id == run_id, RunRow.thread_id == thread_id)).one()
    return Run.model_validate(run)


@app.post("/threads/{thread_id}/messages")
def create_message(thread_id: str, body: MessageCreate, db: Db) -> Message:
    row = new_message(thread_id, body.role, body.content)
    db.add(row)
    db.commit()
    return Message.model_validate(row)


@app.get("/threads/{thread_id}/messages")
def list_messages(thread_id: str, db: Db) -> list[Message]:
    rows = db.scalars(
        select(MessageRow)
        .where(MessageRow.thread_id == thread_id)
        .order_by(MessageRow.seq.desc())
        .limit(20)
    )
    return [Message.model_validate(row) for row in rows]


def new_message(thread_id: str, role: str, content: str) -> MessageRow:
    text: dict[str, Any] = {"type": "text", "text": {"value": content, "annotations": []}}
    return MessageRow(
        id=f"msg_{secrets.token_hex(12)}",
        thread_id=thread_id,
        created_at=1_700_000_000,
        role=role,
        content=[text],
        metadata_={},
    )


def fill() -> None:
    """One thread with a run and a page of messages."""
    Row.metadata.create_all(engine)
    with sessions.begin() as session:
        run = RunRow(
            id="run_1",
            thread_id="thread_1",
            created_at=1_700_000_000,
            status="completed",
            model="scripted",
            instructions="Answer.",
            tools=[],
            metadata_={},
            usage={"prompt_tokens": 1, "completion_tokens": 20, "total_tokens": 21},
        )
        session.add(run)
        session.add_all(new_message("thread_1", "user", "How are you?") for _ in range(20))


class Server(uvicorn.Server):
    """uvicorn, but it says where it listens."""

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        port = self.servers[0].sockets[0].getsockname()[1]
        print(f"http://127.0.0.1:{port}", flush=True)


if __name__ == "__main__":
    fill()
    Server(uvicorn.Config(app, port=0, log_level="warning", access_log=False)).run()
