"""`threadloom healthcheck --worker`: beside a worker, which has no address that could be asked."""

import socket

from sqlalchemy.exc import DBAPIError

from threadloom.config import Settings
from threadloom.db.beats import ALIVE_FOR, seconds_since_worker
from threadloom.db.engine import create_engine
from threadloom.db.failures import said_by
from threadloom.errors import StartError


def find_worker(settings: Settings) -> None:
    """Raises StartError unless a worker of this host was seen lately."""
    host = socket.gethostname()
    engine = create_engine(settings.database_url)
    try:
        age = seconds_since_worker(engine, host)
    except DBAPIError as error:
        raise StartError(f"The database does not tell of workers: {said_by(error)}") from None
    finally:
        engine.dispose()
    if age is None:
        raise StartError(f"The database knows of no worker on {host}.")
    if age > ALIVE_FOR:
        raise StartError(f"The worker on {host} was last seen {age:.0f} seconds ago.")
