"""Objects as the hosted service sent them, for tests to change."""

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import orjson

from tests.archive.generator import BEGAN, id_of

Json = dict[str, Any]


def message(number: int, thread: int = 1, **fields: Any) -> Json:
    return {
        "id": id_of("msg_", number),
        "object": "thread.message",
        "created_at": BEGAN,
        "thread_id": id_of("thread_", thread),
        "role": "user",
        "content": [{"type": "text", "text": {"value": f"Number {number}.", "annotations": []}}],
        **fields,
    }


def file(number: int, content: bytes, name: str, **fields: Any) -> Json:
    return {
        "id": id_of("file-", number),
        "object": "file",
        "created_at": BEGAN + number,
        "filename": name,
        "bytes": len(content),
        "purpose": "assistants",
        "status": "processed",
        **fields,
    }


def store(number: int, **fields: Any) -> Json:
    return {
        "id": id_of("vs_", number),
        "object": "vector_store",
        "created_at": BEGAN + number,
        **fields,
    }


def in_store(number: int, store: int, **fields: Any) -> Json:
    return {
        "id": id_of("file-", number),
        "object": "vector_store.file",
        "created_at": BEGAN + number,
        "vector_store_id": id_of("vs_", store),
        **fields,
    }


def page(*objects: Json) -> bytes:
    return orjson.dumps({"object": "list", "data": objects, "has_more": False})


def lines(*objects: Json) -> bytes:
    return b"\n".join(map(orjson.dumps, objects))


def write_directory(folder: Path, entries: dict[str, bytes]) -> Path:
    for name, content in entries.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_zip(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, entries: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in entries.items():
            one = tarfile.TarInfo(name)
            one.size = len(content)
            archive.addfile(one, io.BytesIO(content))
    return path
