"""The media type of a file: by its name, if its first bytes do not speak against it."""

from mimetypes import MimeTypes

import puremagic

UNKNOWN = "application/octet-stream"
SNIFFED = 4096
BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")
BY_EXTENSION = {
    ".c": "text/x-c",
    ".cpp": "text/x-c++",
    ".cs": "text/x-csharp",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".go": "text/x-golang",
    ".gz": "application/gzip",
    ".java": "text/x-java",
    ".js": "text/javascript",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".php": "text/x-php",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".py": "text/x-python",
    ".rb": "text/x-ruby",
    ".sh": "text/x-sh",
    ".tex": "text/x-tex",
    ".ts": "text/x-typescript",
    ".webp": "image/webp",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".yaml": "text/yaml",
    ".yml": "text/yaml",
}
TEXTS = frozenset({"application/json", "application/jsonl", "application/xml", "image/svg+xml"})


def known_types() -> MimeTypes:
    """Not what the machine has in /etc: every server says the same."""
    types = MimeTypes()
    types.encodings_map = {}
    for extension, media_type in BY_EXTENSION.items():
        types.add_type(media_type, extension)
    return types


TYPES = known_types()


def media_type(filename: str, head: bytes) -> str:
    """The type for a download, from the name and the first bytes."""
    named, _ = TYPES.guess_type(f"/{filename}")
    if named is None:
        return UNKNOWN
    if named.startswith("text/") or named in TEXTS:
        is_binary = b"\0" in head[:SNIFFED] and not head.startswith(BYTE_ORDER_MARKS)
        return UNKNOWN if is_binary else named
    return named if has_signature(head[:SNIFFED], named) else UNKNOWN


def has_signature(head: bytes, named: str) -> bool:
    try:
        found: list[puremagic.PureMagicWithConfidence] = puremagic.magic_string(head)  # pyright: ignore[reportUnknownMemberType]
    except (puremagic.PureError, ValueError):  # nothing is known of these bytes, or there are none
        return False
    return named in {str(one.mime_type) for one in found}  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
