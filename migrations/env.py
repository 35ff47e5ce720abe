"""Alembic's entry: on the connection `threadloom` hands over, or on the configured database."""

from pathlib import Path

from alembic import context
from sqlalchemy import Connection, event

from threadloom import faults
from threadloom.config import load_settings
from threadloom.db.columns import Json
from threadloom.db.engine import connect, create_engine
from threadloom.db.rows import Row


def render(kind: str, item: object, _: object) -> str | bool:
    """A migration names plain types: the typed ones may change after it."""
    return "sa.JSON(none_as_null=True)" if kind == "type" and isinstance(item, Json) else False


def migrate(connection: Connection) -> None:
    event.listen(
        connection, "before_cursor_execute", lambda *_: faults.point("migration.statement")
    )
    context.configure(
        connection=connection,
        target_metadata=Row.metadata,
        render_as_batch=True,
        render_item=render,
    )
    with context.begin_transaction():
        context.run_migrations()


def migrate_configured() -> None:
    settings = load_settings({})
    Path(settings.data_dir).mkdir(parents=True, exist_ok=True)
    with connect(create_engine(settings.database_url), write=True) as connection:
        migrate(connection)
        connection.commit()


handed_over = context.config.attributes.get("connection")
if handed_over is None:
    migrate_configured()
else:
    migrate(handed_over)
