"""For operators: is it up, can it work, which version."""

from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from threadloom import __version__
from threadloom.api.context import Server
from threadloom.db.tx import Tx
from threadloom.errors import NotFound, Unavailable
from threadloom.exposition import exposition
from threadloom.telemetry.prometheus import CONTENT_TYPE

router = APIRouter(tags=["Health"])
AS_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {}}}}


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


@router.get("/metrics", response_class=Response, responses=AS_TEXT)
async def metrics(server: Server) -> Response:
    """What this process has counted, as Prometheus reads it."""
    if not server.settings.telemetry.metrics:
        raise NotFound("The metrics of this server are switched off (telemetry.metrics).")
    return Response(await exposition(server.database), media_type=CONTENT_TYPE)


def ask(tx: Tx) -> None:
    tx.session.execute(text("SELECT 1"))
