"""Files on their way in: the forms of real clients, broken ones, and names of all kinds."""

import asyncio
from urllib.parse import quote

import httpx2
import pytest

from tests.api.forms import BOUNDARY, PURPOSE, TYPE, chunks, field, file, form
from tests.api.wire import Answer, Json, answer, get, refusal, send_file, succeeded
from threadloom.api.multipart import MAX_PARTS, MAX_TEXT

UNREADABLE = "We could not parse the multipart body of your request: "
BINARY = bytes(range(256)) * 10
EMPTY_LIST: Json = {
    "object": "list",
    "data": [],
    "first_id": None,
    "last_id": None,
    "has_more": False,
}


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One database is enough: forms are read before it is reached."""
    return sqlite_url


async def send(http: httpx2.AsyncClient, body: bytes, **headers: str) -> httpx2.Response:
    return await http.post("/files", content=body, headers=TYPE | headers)


async def made_of(http: httpx2.AsyncClient, body: bytes) -> tuple[Json, bytes]:
    """The file that a body makes, and its content."""
    made = succeeded(await send(http, body))
    return made, (await http.get(f"/files/{made['id']}/content")).content


def unreadable(problem: str) -> Answer:
    return refusal(400, UNREADABLE + problem)


def described(headers: str) -> tuple[str, bytes]:
    return headers, BINARY


DISPOSITION = 'Content-Disposition: form-data; name="file"; filename="a.bin"'
HEADS = [
    DISPOSITION,
    f"{DISPOSITION}\r\nContent-Type: ",
    f"{DISPOSITION}\r\nContent-Type:",
    f"{DISPOSITION}\r\nContent-Type: application/octet-stream",
    f"Content-Type: image/png\r\nContent-Length: {len(BINARY)}\r\n{DISPOSITION}",
    "content-disposition: form-data; filename=a.bin; name=file",
    'CONTENT-DISPOSITION:form-data;name="file";filename="a.bin"',
    "Content-Disposition: form-data; name=file; filename=a.bin; filename*=utf-8''a.bin",
]


@pytest.mark.parametrize("head", HEADS)
async def test_parts_are_read_however_they_are_described(
    raw: httpx2.AsyncClient, head: str
) -> None:
    made, content = await made_of(raw, form((head, BINARY), PURPOSE))
    assert (made["filename"], made["bytes"], content) == ("a.bin", len(BINARY), BINARY)


async def test_parts_come_in_any_order(raw: httpx2.AsyncClient) -> None:
    life = (field("expires_after[seconds]", "3600"), field("expires_after[anchor]", "created_at"))
    for parts in (
        (PURPOSE, file(BINARY), *life),
        (file(BINARY), *life, PURPOSE),
        (*life, PURPOSE, file(BINARY)),
    ):
        made, content = await made_of(raw, form(*parts))
        assert made["expires_at"] == made["created_at"] + 3600
        assert content == BINARY


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
async def test_bodies_without_a_length_may_be_cut_anywhere(
    raw: httpx2.AsyncClient, size: int
) -> None:
    content = b"--" + BOUNDARY.encode() + b"\r\n\r\n--" + BINARY[:700] + b"\r\n--" + BINARY[:9]
    made = await raw.post(
        "/files", content=chunks(form(PURPOSE, file(content)), size), headers=TYPE
    )
    assert (await raw.get(f"/files/{succeeded(made)['id']}/content")).content == content


async def test_what_comes_before_and_after_the_parts_is_ignored(raw: httpx2.AsyncClient) -> None:
    _, content = await made_of(raw, b"\r\n" + form(PURPOSE, file(b"text")) + b"and so on")
    assert content == b"text"


async def test_a_boundary_may_be_quoted(raw: httpx2.AsyncClient) -> None:
    quoted = {"content-type": f'Multipart/Form-Data; charset=utf-8; boundary="{BOUNDARY}"'}
    made = await raw.post("/files", content=form(PURPOSE, file()), headers=quoted)
    assert made.status_code == 200


async def test_missing_parts_are_told_like_missing_keys(raw: httpx2.AsyncClient) -> None:
    for parts, missing in (
        ((PURPOSE,), "file"),
        ((file(),), "purpose"),
        ((), "file"),
        ((field("filee", "x"), PURPOSE), "file"),
    ):
        assert answer(await send(raw, form(*parts))) == refusal(
            400,
            f"Missing required parameter: '{missing}'.",
            param=missing,
            code="missing_required_parameter",
        )


@pytest.mark.parametrize("name", ["color", "metadata[a]", "expires_after[a][b]", "ü", "query"])
async def test_unknown_parts_are_told_like_unknown_keys(raw: httpx2.AsyncClient, name: str) -> None:
    shown = "metadata" if name == "metadata[a]" else name
    assert answer(await send(raw, form(PURPOSE, file(), field(name, "x")))) == refusal(
        400, f"Unknown parameter: '{shown}'.", param=shown, code="unknown_parameter"
    )


async def test_a_file_needs_a_name(raw: httpx2.AsyncClient) -> None:
    assert answer(await send(raw, form(PURPOSE, field("file", "text")))) == refusal(
        400,
        "Invalid type for 'file': expected a file with a name, but got a string instead.",
        param="file",
        code="invalid_type",
    )
    for nameless in ("", " ", ".", "..", "a/", "a\\..", "\t"):
        assert answer(await send(raw, form(PURPOSE, file(name=nameless)))) == refusal(
            400,
            "Invalid 'file': empty string. Expected a string with minimum length 1, "
            "but got an empty string instead.",
            param="file",
            code="empty_string",
        )


async def test_a_file_is_there_once(raw: httpx2.AsyncClient) -> None:
    assert answer(await send(raw, form(PURPOSE, file(), file()))) == refusal(
        400, "Invalid 'file': it is there twice.", param="file", code="invalid_value"
    )


async def test_what_is_no_form_is_refused(raw: httpx2.AsyncClient) -> None:
    for given in (
        "application/json",
        "text/plain",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/mixed; boundary=b",
        f"multipart/form-data; boundary={'b' * 300}",
        "",
    ):
        refused = await raw.post("/files", content=b"{}", headers={"content-type": given})
        shown = f"'{given}'" if given else "none"
        assert answer(refused) == unreadable(
            f"expected the content type 'multipart/form-data' with a boundary, but got {shown} instead."
        )


BROKEN: list[tuple[bytes, str]] = [
    (b"", "it ends before its last boundary."),
    (b"{}", "it is not well-formed."),
    (form(PURPOSE, file())[:-6], "it ends before its last boundary."),
    (form(PURPOSE, file())[:60], "it ends before its last boundary."),
    (form(("X-Other: 1", b"")), "a part has no name."),
    (form(("form-data", b"")), "a part has no name."),
    (form(("Content Disposition: form-data", b"")), "it is not well-formed."),
    (form((DISPOSITION + "x" * 70_000, b"")), "it is not well-formed."),
    (form((DISPOSITION + "\r\nX-A: 1" * 10, b"")), "it is not well-formed."),
    (form(field("purpose", "x" * (MAX_TEXT + 1))), f"a field is longer than {MAX_TEXT} bytes."),
    (form(*[PURPOSE] * (MAX_PARTS + 1)), f"it has more than {MAX_PARTS} parts."),
]


@pytest.mark.parametrize(("body", "problem"), BROKEN)
async def test_a_broken_form_is_refused(raw: httpx2.AsyncClient, body: bytes, problem: str) -> None:
    assert answer(await send(raw, body)) == unreadable(problem)
    assert await get(raw, "/files") == EMPTY_LIST


NAMES = [
    ("Übersicht «2024».pdf", "Übersicht «2024».pdf"),
    ("日本語.txt", "日本語.txt"),
    ("👩‍👩‍👧.png", "👩‍👩‍👧.png"),
    ("a; filename=b.txt", "a; filename=b.txt"),
    ("it's 100% & done.txt", "it's 100% & done.txt"),
    ("../../etc/passwd", "passwd"),
    ("/etc/passwd", "passwd"),
    ("C:\\Users\\me\\notes.txt", "notes.txt"),
    ("~/.bashrc", ".bashrc"),
    ("a%22b.txt", 'a"b.txt'),
    ('a\\"b.txt', 'a"b.txt'),
    ("a%0D%0ASet-Cookie: b.txt", "aSet-Cookie: b.txt"),
    ("a%2Fb.txt", "a%2Fb.txt"),
    ("tab\tand bell\x07.txt", "taband bell.txt"),
    (" spaces .txt ", "spaces .txt"),
    ("x" * 255, "x" * 255),
]


@pytest.mark.parametrize(("sent", "kept"), NAMES)
async def test_names_are_kept_without_directories_and_control_characters(
    raw: httpx2.AsyncClient, sent: str, kept: str
) -> None:
    made, _ = await made_of(raw, form(PURPOSE, file(name=sent)))
    assert made["filename"] == kept


EXTENDED = [
    ("; filename*=utf-8''" + quote("Füße €.txt"), "Füße €.txt"),
    ("; filename*=UTF-8'de'" + quote("Füße.txt"), "Füße.txt"),
    ("; filename*=iso-8859-1''F%FC%DFe.txt", "Füße.txt"),
    ("; filename*=ISO-8859-1''%ff.txt", "ÿ.txt"),
    ("; filename*=utf-8''%ff.txt", "\ufffd.txt"),
    ("; filename*=utf-8''..%2f..%2fb.txt", "b.txt"),
]


@pytest.mark.parametrize(("more", "kept"), EXTENDED)
async def test_extended_names_are_better_than_plain_ones(
    raw: httpx2.AsyncClient, more: str, kept: str
) -> None:
    made, _ = await made_of(raw, form(PURPOSE, file(name="=?utf-8?B?RsO8?=", more=more)))
    assert made["filename"] == kept


@pytest.mark.parametrize(
    "extended",
    [
        "nonsense''a%20b.txt",
        "idna''xn--a%20b.txt",
        "undefined''zz.txt",
        "u\0''a.txt",
        "utf-7''+2AA-.txt",
        "unicode_escape''%5Cud800.txt",
        "rot13''a.txt",
        "''a.txt",
        "a.txt",
    ],
)
async def test_extended_names_in_any_other_charset_are_refused(
    raw: httpx2.AsyncClient, extended: str
) -> None:
    refused = await send(raw, form(PURPOSE, file(more=f"; filename*={extended}")))
    assert answer(refused) == unreadable(
        "the charset of 'filename*' is neither UTF-8 nor ISO-8859-1."
    )


async def test_names_in_other_encodings_are_read_as_latin_1(raw: httpx2.AsyncClient) -> None:
    body = form(PURPOSE, file(name="F@e.txt")).replace(b"@", b"\xfc\xdf")
    made, _ = await made_of(raw, body)
    assert made["filename"] == "Füße.txt"


async def test_names_longer_than_any_file_system_has_are_refused(raw: httpx2.AsyncClient) -> None:
    assert answer(await send_file(raw, name="n" * 5000)) == refusal(
        400,
        "Invalid 'file': string too long. Expected a string with maximum length 255, "
        "but got a string with length 5000 instead.",
        param="file",
        code="string_above_max_length",
    )


async def test_a_nul_character_is_refused(raw: httpx2.AsyncClient) -> None:
    for body, param in (
        (form(PURPOSE, file(name="a\0b.txt")), "file"),
        (form(file(), field("purpose", "assist\0ants")), "purpose"),
        (form(file(), PURPOSE, field("expires_after[anchor]", "\0")), "expires_after.anchor"),
    ):
        assert answer(await send(raw, body)) == refusal(
            400,
            f"Invalid '{param}': string contains a NUL character, which databases cannot store.",
            param=param,
            code="invalid_value",
        )


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("notes.txt", b"text", "text/plain"),
        ("NOTES.MD", b"# Title", "text/markdown"),
        ("main.py", b"import os", "text/x-python"),
        ("page.html", b"<!DOCTYPE html>", "text/html"),
        ("data.json", b"{}", "application/json"),
        ("rows.csv", b"a,b", "text/csv"),
        ("utf16.txt", "text".encode("utf-16"), "text/plain"),
        ("notes.txt", b"\0\1\2", "application/octet-stream"),
        ("a.pdf", b"%PDF-1.7\n...", "application/pdf"),
        ("a.pdf", b"<html>no</html>", "application/octet-stream"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(20), "image/png"),
        ("a.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF\0", "image/jpeg"),
        ("a.webp", b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
        ("a.gif", b"<script>", "application/octet-stream"),
        ("a.tar.gz", b"\x1f\x8b\x08rest", "application/octet-stream"),
        ("a.exe", b"MZ\x90\0\3", "application/octet-stream"),
        ("a.unheard-of", b"text", "application/octet-stream"),
        ("https://example.com/a.txt?b.png", b"text", "application/octet-stream"),
        ("none", b"text", "application/octet-stream"),
        ("empty.pdf", b"", "application/octet-stream"),
        ("empty.txt", b"", "text/plain"),
    ],
)
async def test_downloads_are_of_the_named_type_if_their_bytes_agree(
    raw: httpx2.AsyncClient, name: str, content: bytes, kind: str
) -> None:
    made = succeeded(await send_file(raw, content, name))
    response = await raw.get(f"/files/{made['id']}/content")
    headers = response.headers
    assert (response.content, headers["content-type"]) == (content, kind)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-length"] == str(len(content))


@pytest.mark.parametrize(
    ("name", "disposition"),
    [
        ("notes.txt", "attachment; filename=\"notes.txt\"; filename*=UTF-8''notes.txt"),
        ("a b.txt", "attachment; filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt"),
        ("é€.txt", "attachment; filename=\"__.txt\"; filename*=UTF-8''%C3%A9%E2%82%AC.txt"),
        ('a"b%41.txt', "attachment; filename=\"a_b_41.txt\"; filename*=UTF-8''a%22b%2541.txt"),
        ("a%0D%0AX: y", "attachment; filename=\"aX: y\"; filename*=UTF-8''aX%3A%20y"),
        ("';drop", "attachment; filename=\"';drop\"; filename*=UTF-8''%27%3Bdrop"),
    ],
)
async def test_downloads_are_named_safely(
    raw: httpx2.AsyncClient, name: str, disposition: str
) -> None:
    body = form(PURPOSE, file(name=name.replace('"', "%22")))
    made = succeeded(await send(raw, body))
    response = await raw.get(f"/files/{made['id']}/content")
    assert response.headers["content-disposition"] == disposition
    assert "x" not in response.headers


async def test_many_files_arrive_at_once(raw: httpx2.AsyncClient) -> None:
    contents = [f"{number} ".encode() * 50_000 for number in range(20)]
    made = await asyncio.gather(*(send_file(raw, content) for content in contents))
    ids = [succeeded(one)["id"] for one in made]
    kept = await asyncio.gather(*(raw.get(f"/files/{one}/content") for one in ids))
    assert [one.content for one in kept] == contents
