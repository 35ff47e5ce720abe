"""`threadloom healthcheck` beside `serve`: a new process every few seconds, so it imports nothing heavy."""

from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

from threadloom.config import Server
from threadloom.errors import StartError

PATIENCE = 5.0
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - what is listened on, and what is asked for it


def ask(server: Server) -> None:
    """Raises StartError unless the API of this machine is ready."""
    host = ANYWHERE.get(server.host, server.host)
    connection = HTTPConnection(host, server.port, timeout=PATIENCE)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        raise StartError(f"Nothing answers at {host}:{server.port}: {error}") from None
    finally:
        connection.close()
    if status != HTTPStatus.OK:
        raise StartError(f"/readyz answers with status {status}.")
