"""File bytes, behind obstore: a local directory, S3, GCS or Azure."""

import asyncio
import errno
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store, from_url

from threadloom.config import S3, Settings, Storage
from threadloom.errors import BlobMissing, StartError, StorageUnavailable

if TYPE_CHECKING:  # they are not there at run time
    from obstore import AsyncReadableFile
    from obstore.store import ClientConfig, RetryConfig, S3Config

# S3 takes no smaller parts; a write holds at most three of them, because one fills while two travel.
PART = 5 * 1024 * 1024
PARTS_AT_ONCE = 2
PIECE = 1024 * 1024
LISTED = 1_000
DELETED_AT_ONCE = 10
CLIENT: "ClientConfig" = {
    "allow_http": True,
    "connect_timeout": timedelta(seconds=5),
    "timeout": timedelta(seconds=60),
}
RETRIES: "RetryConfig" = {"max_retries": 4, "retry_timeout": timedelta(seconds=30)}


class Blobs:
    """File bytes by key. Raises BlobMissing and StorageUnavailable."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def new_key(self) -> str:
        """A key nobody can guess; its first part keeps directories small."""
        key = secrets.token_hex(20)
        return f"{key[:2]}/{key[2:]}"

    async def write(self, key: str, pieces: AsyncIterator[bytes]) -> int:
        """Store what arrives and count it. Nothing can be read before all of it is there; a power cut afterwards takes none of it."""
        written = 0
        with answering():
            async with obstore.open_writer_async(
                self._store, key, buffer_size=PART, max_concurrency=PARTS_AT_ONCE
            ) as writer:
                async for piece in pieces:
                    written += await writer.write(piece)
            if isinstance(self._store, LocalStore):
                await asyncio.to_thread(sync_blob, self._store, key)
        return written

    async def read(self, keys: Sequence[str]) -> AsyncGenerator[bytes]:
        """The bytes of all keys, one after the other.

        In ranges, because one answer of the store would time out when its reader is slow.
        """
        for key in keys:
            with finding():
                reader = await obstore.open_reader_async(self._store, key, buffer_size=PIECE)
            while piece := await read_piece(reader):
                yield piece

    @asynccontextmanager
    async def as_file(self, keys: Sequence[str], copy: Path) -> AsyncGenerator[Path]:
        """One local file with the bytes of all keys, to be read only: the blob itself, or for a while a copy of it."""
        if isinstance(self._store, LocalStore) and len(keys) == 1:
            blob = root(self._store) / keys[0]
            with finding():
                blob.stat()
            yield blob
            return
        try:
            await self._download(keys, copy)
            yield copy
        finally:
            await asyncio.to_thread(copy.unlink, missing_ok=True)

    async def _download(self, keys: Sequence[str], path: Path) -> None:
        with await asyncio.to_thread(path.open, "wb") as file:
            async for piece in self.read(keys):
                await asyncio.to_thread(write_all, file, piece)

    async def keys(self) -> AsyncGenerator[list[str]]:
        """All keys that can be read, some at a time."""
        with answering():
            found = obstore.list(self._store, chunk_size=LISTED)  # pyright: ignore[reportUnknownMemberType] - of Arrow, which nobody asks for
            async for some in found:
                yield [one["path"] for one in some]

    async def has(self, key: str) -> bool:
        try:
            with finding():
                await obstore.head_async(self._store, key)
        except BlobMissing:
            return False
        return True

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove what is there of these keys."""
        if isinstance(self._store, LocalStore):
            await asyncio.to_thread(unlink, self._store, keys)
            return
        with answering():
            if isinstance(self._store, S3Store):
                await obstore.delete_async(self._store, keys)
                return
            for start in range(0, len(keys), DELETED_AT_ONCE):
                some = keys[start : start + DELETED_AT_ONCE]
                await asyncio.gather(*map(self._delete_one, some))

    async def _delete_one(self, key: str) -> None:
        with suppress(FileNotFoundError):  # of several keys, others than S3 would leave all for it
            await obstore.delete_async(self._store, key)


async def read_piece(reader: "AsyncReadableFile") -> bytes:
    with finding():
        return bytes(await reader.read(PIECE))


def write_all(file: IO[bytes], piece: bytes) -> None:
    file.write(piece)


def root(store: LocalStore) -> Path:
    assert store.prefix is not None  # open_blobs gives it one
    return store.prefix


def sync_blob(store: LocalStore, key: str) -> None:
    """The store leaves it to the system when what it wrote comes to the disk, and when the names of it and its directory do."""
    blob = root(store) / key
    for path in (blob, blob.parent, root(store)):
        sync(path)


def sync(path: Path) -> None:
    """Wait until a file's bytes are on the disk, or the names in a directory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if (
            error.errno != errno.EINVAL
        ):  # from file systems that cannot do it, for directories above all
            raise
    finally:
        os.close(handle)


def unlink(store: LocalStore, keys: Sequence[str]) -> None:
    """Also what a killed process had written so far, which the store keeps beside and does not show."""
    with answering():
        for key in keys:
            (root(store) / key).unlink(missing_ok=True)
            for unfinished in root(store).glob(f"{key}#*"):
                unfinished.unlink(missing_ok=True)


@contextmanager
def answering() -> Generator[None]:
    """The store's own faults as ours: their texts hold keys and paths, which are for nobody else."""
    try:
        yield
    except (BaseError, OSError) as error:
        raise StorageUnavailable from error


@contextmanager
def finding() -> Generator[None]:
    """The same for reading: here it is the blob that may be missing, and not the whole store."""
    with answering():
        try:
            yield
        except FileNotFoundError as error:
            raise BlobMissing from error


def open_blobs(settings: Settings) -> Blobs:
    """The store of `storage.url`. Raises StartError."""
    try:
        return Blobs(open_store(settings.storage, settings.data_dir / "files"))
    except (BaseError, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise StartError(f"Cannot open the file storage: {reason}") from None


def open_store(storage: Storage, directory: Path) -> ObjectStore:
    if storage.url is None:
        return LocalStore(directory.absolute(), mkdir=True)
    if storage.url.startswith("file:"):
        return LocalStore.from_url(storage.url, mkdir=True)
    if storage.url.startswith("s3:"):
        return from_url(
            storage.url, config=s3_config(storage.s3), client_options=CLIENT, retry_config=RETRIES
        )
    return from_url(storage.url, client_options=CLIENT, retry_config=RETRIES)


def s3_config(s3: S3) -> "S3Config":
    """What is set; what is not, obstore finds out as Amazon's own tools do."""
    config: S3Config = {}
    if s3.endpoint is not None:
        config["endpoint"] = s3.endpoint
    if s3.region is not None:
        config["region"] = s3.region
    if s3.access_key_id is not None:
        config["access_key_id"] = s3.access_key_id
    if s3.secret_access_key is not None:
        config["secret_access_key"] = s3.secret_access_key.get_secret_value()
    return config
