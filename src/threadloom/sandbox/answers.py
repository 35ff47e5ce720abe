"""What a driver's answers may contain. Each function raises Unintelligible for what is not as agreed."""

from typing import get_args

from threadloom.sandbox.frames import Message, Unintelligible, Value
from threadloom.sandbox.session import Ending, Finished, MediaType, Picture, SandboxFile

MAX_PATH = 4096
MAX_PICTURE = 16 * 1024 * 1024
ENDINGS: frozenset[Value] = frozenset(get_args(Ending))
MAGIC: dict[MediaType, bytes] = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
}


def size_in(message: Message, name: str = "size") -> int:
    """A whole number, not below zero."""
    size = message.get(name)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise Unintelligible(f"no {name}")
    return size


def text_in(message: Message, name: str) -> str:
    text = message.get(name)
    if not isinstance(text, str):
        raise Unintelligible(f"no {name}")
    return text


def media_type_in(message: Message) -> MediaType:
    for media_type in MAGIC:
        if message.get("media_type") == media_type:
            return media_type
    raise Unintelligible("no picture")


def picture_of(media_type: MediaType, content: bytes) -> Picture:
    if not content.startswith(MAGIC[media_type]):
        raise Unintelligible("not that kind of picture")
    return Picture(media_type, content)


def finished_in(message: Message) -> Finished:
    for ending in get_args(Ending):
        if message.get("ending") == ending:
            lost = message.get("state_lost") is True
            return Finished(ending, lost, size_in(message, "cut"), tuple(files_in(message)))
    raise Unintelligible("no ending")


def files_in(message: Message) -> list[SandboxFile]:
    files = message.get("files")
    if not isinstance(files, list):
        raise Unintelligible("no files")
    return [file_of(file) for file in files]


def file_of(file: Value) -> SandboxFile:
    if not isinstance(file, dict):
        raise Unintelligible("no file")
    return SandboxFile(path_of(text_in(file, "path")), size_in(file))


def path_of(path: str) -> str:
    """Below the data folder, and nowhere else."""
    parts = path.split("/")
    if any(part in {"", ".", ".."} for part in parts) or "\0" in path:
        raise Unintelligible("no path below the data")
    if len(path.encode()) > MAX_PATH:
        raise Unintelligible("path too long")
    return path
