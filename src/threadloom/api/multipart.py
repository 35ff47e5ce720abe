"""Forms with a file in them, read as they arrive: the file never stands in memory as a whole."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar, cast
from urllib.parse import unquote_to_bytes

from fastapi import Request
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MAX_BOUNDARY_LENGTH, MultipartParser, parse_options_header

from threadloom.api.bodies import refuse_nul
from threadloom.api.validation import explain
from threadloom.errors import BodyTooLarge, InvalidRequest
from threadloom.types.shared import JsonObject

MAX_PARTS = 64
MAX_TEXT = 64 * 1024
MAX_HEADER = 64 * 1024
PARAMETER = re.compile(r';\s*([^\s=;]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)')
NESTED = re.compile(r"(\w+)\[(\w+)\]")
BACKSLASHED = re.compile(r'\\(["\\])')
# So browsers write these three within quotes, and so does the HTTP library of the Python SDK.
ESCAPED = re.compile(r"%(22|0D|0A)")
CHARSETS = frozenset({"utf-8", "iso-8859-1"})

Received = TypeVar("Received", bound=BaseModel)
Store = Callable[[AsyncIterator[bytes]], Awaitable[int]]
"""Takes the bytes of a file and tells how many they were."""


@dataclass(frozen=True)
class Part:
    """The head of a part; its bytes follow, then None."""

    name: str
    filename: str | None


Event = Part | bytes | None


@dataclass(frozen=True)
class Form:
    """The texts of a form, among which a file stands with its name; and the size of that file."""

    fields: JsonObject
    size: int

    def read_as(self, kind: type[Received]) -> Received:
        """Raises InvalidRequest in the words for JSON bodies."""
        refuse_nul(self.fields)
        try:
            return kind.model_validate(self.fields)
        except ValidationError as error:
            raise explain(error.errors()) from None


def form(file_field: str, *text_fields: str) -> JsonObject:
    """How such a form looks in the API's own description."""
    properties: JsonObject = {file_field: {"type": "string", "format": "binary"}}
    properties |= {name: {"type": "string"} for name in text_fields}
    schema = {"type": "object", "required": list(properties), "properties": properties}
    content = {"multipart/form-data": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


async def read_form(request: Request, file_field: str, store: Store) -> Form:
    """Store the file as it arrives, keep the rest. Raises InvalidRequest."""
    source = events(request.stream(), boundary_of(request))
    fields: JsonObject = {}
    size = 0
    async for part in source:
        assert isinstance(part, Part)  # whoever takes a part reads on to its end
        if part.name != file_field:
            put(fields, part.name, await text_of(source))
        elif file_field in fields:
            raise InvalidRequest(
                f"Invalid '{file_field}': it is there twice.",
                param=file_field,
                code="invalid_value",
            )
        else:
            fields[file_field] = part.filename
            size = await store(data_of(source))
    return Form(fields, size)


def put(fields: JsonObject, name: str, text: str) -> None:
    """Nested fields are written `expires_after[seconds]`."""
    outer = NESTED.fullmatch(name)
    if outer is None:
        fields[name] = text
        return
    inside: object = fields.setdefault(outer[1], {})
    if isinstance(inside, dict):
        cast(JsonObject, inside)[outer[2]] = text  # made two lines above


async def data_of(source: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """The bytes of the part that has begun."""
    async for event in source:
        if not isinstance(event, bytes):
            return
        yield event


async def text_of(source: AsyncIterator[Event]) -> str:
    text = bytearray()
    async for piece in data_of(source):
        text += piece
        if len(text) > MAX_TEXT:
            raise unreadable(f"a field is longer than {MAX_TEXT} bytes.")
    return text.decode(errors="replace")


async def at_most(limit: int, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Raises BodyTooLarge."""
    left = limit
    async for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise BodyTooLarge(limit)
        yield piece


async def events(chunks: AsyncIterator[bytes], boundary: bytes) -> AsyncIterator[Event]:
    """The parts of the body as they arrive. Raises InvalidRequest."""
    parser = Parser(boundary)
    async for chunk in chunks:
        for event in parser.feed(chunk):
            yield event
    if not parser.has_ended:
        raise unreadable("it ends before its last boundary.")


class Parser:
    """Turns the callbacks of python-multipart into a list of what came."""

    def __init__(self, boundary: bytes) -> None:
        self._events: list[Event] = []
        self._parts = 0
        self._name = b""
        self._value = b""
        self._disposition = b""
        self.has_ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._head_end,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._end_of_form,
            },
            max_header_size=MAX_HEADER,
        )

    def feed(self, chunk: bytes) -> list[Event]:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise unreadable("it is not well-formed.") from error
        came, self._events = self._events, []
        return came

    def _begin(self) -> None:
        self._disposition = b""
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise unreadable(f"it has more than {MAX_PARTS} parts.")

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _head_end(self) -> None:
        self._events.append(part_of(self._disposition))

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(data[start:end])

    def _end(self) -> None:
        self._events.append(None)

    def _end_of_form(self) -> None:
        self.has_ended = True


def boundary_of(request: Request) -> bytes:
    """Raises InvalidRequest."""
    given = request.headers.get("content-type", "")
    kind, options = parse_options_header(given)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= MAX_BOUNDARY_LENGTH:
        shown = f"'{given}'" if given else "none"
        raise unreadable(
            f"expected the content type 'multipart/form-data' with a boundary, but got {shown} instead."
        )
    return boundary


def part_of(disposition: bytes) -> Part:
    """The names in a Content-Disposition. Raises InvalidRequest."""
    given = {name.lower(): value for name, value in PARAMETER.findall(readable(disposition))}
    if "name" not in given:
        raise unreadable("a part has no name.")
    filename = given.get("filename")
    # RFC 7578 forbids the extended form; .NET sends it all the same, beside one that only mail programs can read.
    extended = given.get("filename*")
    if extended is not None:
        return Part(unquoted(given["name"]), in_charset(unquoted(extended)))
    return Part(unquoted(given["name"]), None if filename is None else unquoted(filename))


def readable(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def unquoted(value: str) -> str:
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = BACKSLASHED.sub(r"\1", value[1:-1])
        value = ESCAPED.sub(lambda found: chr(int(found[1], 16)), value)
    return value


def in_charset(value: str) -> str:
    """RFC 8187: `UTF-8''%e2%82%ac.txt`. Raises InvalidRequest."""
    charset, _, rest = value.partition("'")
    # Not any that Python knows: some of its codecs are no charsets, and break.
    if charset.lower() not in CHARSETS:
        raise unreadable("the charset of 'filename*' is neither UTF-8 nor ISO-8859-1.")
    return unquote_to_bytes(rest.partition("'")[2]).decode(charset, errors="replace")


def unreadable(problem: str) -> InvalidRequest:
    return InvalidRequest(f"We could not parse the multipart body of your request: {problem}")
