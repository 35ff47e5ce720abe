"""Where state lies: the data directory and the file storage."""

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from threadloom.blobs import Blobs, open_blobs
from threadloom.commands.doctor.findings import Finding, fitting, green, red, yellow
from threadloom.config import Settings
from threadloom.errors import ApiError, StartError

LITTLE, TOO_LITTLE = 1024**3, 100 * 1024**2
STORAGE_PATIENCE = 15.0
CONTENT = secrets.token_bytes(4096)
LONGEST = 200


def check_directory(settings: Settings) -> Finding:
    """It is there, can be written, and has room."""
    path = settings.data_dir.absolute()
    if not path.exists():
        return missing(path)
    try:
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(CONTENT)
            probe.flush()
    except OSError as error:
        return red("data directory", f"{path} cannot be written: {error.strerror}", owner_of(path))
    free = shutil.disk_usage(path).free
    says = f"{path} can be written and has {free / 1024**3:.1f} GiB free"
    mend = "Make room there, or set THREADLOOM_DATA_DIR to a larger disk."
    if free < TOO_LITTLE:
        return red("data directory", says, mend)
    return yellow("data directory", says, mend) if free < LITTLE else green("data directory", says)


def missing(path: Path) -> Finding:
    nearest = next(parent for parent in path.parents if parent.exists())
    if os.access(nearest, os.W_OK):
        mend = "The first `threadloom serve` makes it. If there should be one: look at THREADLOOM_DATA_DIR."
        return yellow("data directory", f"{path} is not there yet", mend)
    return red("data directory", f"{path} is not there and cannot be made", owner_of(nearest))


def owner_of(path: Path) -> str:
    give = f"chown -R {os.getuid()}"
    return fitting(
        f"Give it to the user who runs Threadloom (`{give} {path}`), or set THREADLOOM_DATA_DIR to another.",
        f"What is mounted there has to belong to the image's user: `{give}` of that folder, on the machine itself.",
    )


async def check_storage(settings: Settings) -> Sequence[Finding]:
    """Write, read and delete a blob."""
    where = settings.storage.url or f"{settings.data_dir / 'files'}"
    mend = (
        "Let the user who runs Threadloom write there."
        if settings.storage.url is None or settings.storage.url.startswith("file:")
        else "Check THREADLOOM_STORAGE__URL, __S3__ENDPOINT, __S3__REGION and the keys, and that the bucket exists."
    )
    if settings.storage.url is None and not settings.data_dir.exists():
        return [
            yellow("storage", f"{where} is not there yet", "The first `threadloom serve` makes it.")
        ]
    try:
        async with asyncio.timeout(STORAGE_PATIENCE):
            problem = await try_storage(open_blobs(settings))
    except TimeoutError:
        problem = f"no answer within {STORAGE_PATIENCE:.0f} seconds"
    except StartError as error:
        problem = str(error)
    except ApiError as error:
        problem = without_secrets(reason_of(error), settings)
    if problem:
        return [red("storage", f"{where} does not work: {problem}", mend)]
    return [green("storage", f"{where} takes, gives back and deletes a file")]


async def try_storage(blobs: Blobs) -> str | None:
    """What is wrong with what it gives back, if anything. Raises ApiError."""
    key = blobs.new_key()
    await blobs.write(key, pieces())
    try:
        found = b"".join([piece async for piece in blobs.read([key])])
    finally:
        await blobs.delete([key])
    return None if found == CONTENT else "what is read is not what was written"


async def pieces() -> AsyncIterator[bytes]:
    yield CONTENT


def reason_of(error: ApiError) -> str:
    """The store's own words, which are for operators only."""
    return (str(error.__cause__).partition("\n")[0] or error.message)[:LONGEST]


def without_secrets(reason: str, settings: Settings) -> str:
    s3 = settings.storage.s3
    secret = s3.secret_access_key.get_secret_value() if s3.secret_access_key else None
    for hidden in filter(None, (secret, s3.access_key_id)):
        reason = reason.replace(hidden, "***")
    return reason
