"""A collector on loopback that keeps what it is sent."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread


@dataclass(frozen=True)
class Export:
    """One request as it came."""

    path: str
    key: str | None
    body: bytes


@contextmanager
def collecting() -> Generator[tuple[str, list[Export]]]:
    """The collector's address, and what it was sent so far."""
    exports: list[Export] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            exports.append(Export(self.path, self.headers.get("x-key"), body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", exports
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
