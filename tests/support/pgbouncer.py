"""A real PgBouncer in transaction mode, before a PostgreSQL that listens on a socket."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

PORT = 6432
"""Part of the name of a socket in a folder of its own: nobody else's."""
SETTINGS = """
[databases]
* = host={host} user={user}
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
listen_port = {port}
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 200
pidfile = {folder}/pid
logfile = {folder}/log
user = {system_user}
"""


@contextmanager
def running_pgbouncer(postgres_url: str) -> Generator[str]:
    """The URL of the same database through PgBouncer, which has four connections for everybody."""
    target = conninfo_to_dict(postgres_url)
    folder = Path(tempfile.mkdtemp(prefix="tl-pb-", dir="/tmp"))
    url = f"postgresql://{target['user']}@/{target['dbname']}?host={folder}&port={PORT}"
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        SETTINGS.format(
            host=target["host"],
            user=target["user"],
            folder=folder,
            port=PORT,
            system_user=Path(str(target["host"])).owner(),
        )
    )
    folder.chmod(0o777)  # it refuses to be root, and becomes whom PostgreSQL's socket belongs to
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None, "pgbouncer is missing: apt-get install pgbouncer"
    process = subprocess.Popen([program, "-q", str(settings)], stderr=subprocess.DEVNULL)
    try:
        wait_for(url)
        yield url
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(url: str) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            psycopg.connect(url, prepare_threshold=None).close()
        except psycopg.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return
