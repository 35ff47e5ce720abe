"""For operators: is it up, can it work, which version."""

from fastapi import APIRouter
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from threadloom import __version__
from threadloom.api.context import Server
from threadloom.db.tx import Tx
from threadloom.errors import Unavailable

router = APIRouter(tags=["Health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(server: Server) -> dict[str, str]:
    """The database answers too."""
    try:
        await server.database.read(ask)
    except SQLAlchemyError:
        raise Unavailable("The database does not answer.") from None
    return {"status": "ok"}


@router.get("/version")
async def version() -> dict[str, str]:
    return {"version": __version__}


def ask(tx: Tx) -> None:
    tx.session.execute(text("SELECT 1"))
