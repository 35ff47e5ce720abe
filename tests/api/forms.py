"""Forms as they stand on the wire, written by hand: clients of all kinds have their own ways."""

from collections.abc import AsyncIterator

BOUNDARY = "----------------------------123456"
TYPE = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}

Part = tuple[str, bytes]
"""The value of Content-Disposition, or all headers; and the content."""


def form(*parts: Part) -> bytes:
    written = [one for head, content in parts for one in (opening(head), content, b"\r\n")]
    return b"".join([*written, f"--{BOUNDARY}--\r\n".encode()])


def opening(head: str) -> bytes:
    headers = head if ":" in head.partition(";")[0] else f"Content-Disposition: {head}"
    return f"--{BOUNDARY}\r\n{headers}\r\n\r\n".encode()


def field(name: str, value: str) -> Part:
    return f'form-data; name="{name}"', value.encode()


def file(content: bytes = b"Some text.", name: str = "notes.txt", more: str = "") -> Part:
    return f'Content-Disposition: form-data; name="file"; filename="{name}"{more}', content


async def chunks(body: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


PURPOSE = field("purpose", "assistants")
