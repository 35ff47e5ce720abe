"""A server that speaks S3, in a process of its own."""

import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager

import httpx2

from tests.support.process import environment

BUCKET = "files"
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
KEYS = {"access_key_id": "testing", "secret_access_key": "testing", "region": "us-east-1"}


@contextmanager
def running_s3() -> Generator[str]:
    """Gives its address; it has one empty bucket."""
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    # A full pipe would stop it.
    reader = threading.Thread(target=deque[str], args=(process.stderr, 0))
    try:
        said = iter(process.stderr.readline, "")
        address = next(found[0] for line in said if (found := ADDRESS.search(line)))
        reader.start()
        httpx2.put(f"{address}/{BUCKET}").raise_for_status()
        yield address
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stderr.close()
