"""`threadloom files`."""

from pathlib import Path

import httpx2
import pytest

from tests.api.wire import get, make_file
from tests.commands.running import Commands


async def test_a_file_from_its_beginning_to_its_end(
    threadloom: Commands, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 9000
    path = tmp_path / "bees.bin"
    path.write_bytes(content)
    made = await threadloom.run("files", "upload", str(path), "--purpose", "user_data")
    sent = await get(http, f"/files/{made}")
    assert (sent["filename"], sent["bytes"], sent["purpose"]) == (
        "bees.bin",
        len(content),
        "user_data",
    )
    assert await threadloom.json("files", "show", made) == sent
    assert (await threadloom.json("files", "list", "--purpose", "user_data"))["data"] == [sent]
    assert (await threadloom.json("files", "list", "--purpose", "vision"))["data"] == []
    copy = tmp_path / "copy.bin"
    written = await threadloom.json("files", "download", made, "--output", str(copy))
    assert written == {"id": made, "path": str(copy), "bytes": len(content)}
    assert copy.read_bytes() == content
    assert (await threadloom.json("files", "delete", made))["deleted"] is True
    assert (await http.get(f"/files/{made}")).status_code == 404


async def test_a_download_takes_the_files_name_and_overwrites_nothing(
    threadloom: Commands,
    http: httpx2.AsyncClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    file = (await make_file(http, b"Some text.", "notes.txt"))["id"]
    assert await threadloom.run("files", "download", file) == "Wrote 10 bytes to notes.txt."
    (tmp_path / "notes.txt").write_text("mine")
    refused = await threadloom.refused("files", "download", file)
    assert refused == "notes.txt is there already: name another with --output."
    assert (tmp_path / "notes.txt").read_text() == "mine"
    nowhere = await threadloom.refused("files", "download", file, "--output", "none/notes.txt")
    assert nowhere == "Cannot write none/notes.txt: No such file or directory."


async def test_lost_bytes_are_told_and_leave_nothing_behind(
    alone: Commands, tmp_path: Path
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Some text.")
    file = await alone.run("files", "upload", str(path))
    (blob,) = [one for one in (tmp_path / "files").rglob("*") if one.is_file()]
    blob.unlink()
    copy = tmp_path / "copy.txt"
    refused = await alone.refused("files", "download", file, "--output", str(copy))
    assert refused == "The content of the file is not in the file storage."
    assert not copy.exists()


async def test_what_cannot_be_taken_in_is_told(alone: Commands, tmp_path: Path) -> None:
    missing = tmp_path / "missing.txt"
    assert await alone.refused("files", "upload", str(missing)) == f"There is no file {missing}."
    small = Commands(alone.variables | {"THREADLOOM_FILES__MAX_BYTES": "9"})
    path = tmp_path / "notes.txt"
    path.write_text("Some text.")
    assert "The limit is 9 bytes" in await small.refused("files", "upload", str(path))
    assert (await alone.json("files", "list"))["data"] == []
    assert await alone.refused("files", "show", "file-1") == "No such File object: file-1"
