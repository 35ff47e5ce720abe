"""Archives come from anywhere: nothing of them leads outside, fills the memory or reaches another project."""

import gzip
import os
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from tests.api.wire import Json
from tests.archive.conftest import Place
from tests.archive.generator import assistant, id_of, thread
from tests.archive.saved import (
    file,
    in_store,
    lines,
    message,
    page,
    store,
    write_directory,
    write_tar,
    write_zip,
)
from threadloom.archive.documents import MAX_DOCUMENT

SECRET = b"A secret of the machine."
GOOD = page(assistant(1))


def reasons(report: Json) -> list[tuple[str, str]]:
    """What was skipped, and why."""
    return [(one["id"] or one["where"], one["reason"]) for one in report["reasons"]]


def names_in(folder: Path) -> list[str]:
    return [
        one.name
        for one in folder.iterdir()
        if one.is_dir() or one.suffix in {".gz", ".zip", ".json"}
    ]


async def imported(place: Place, path: Path, *options: str) -> Json:
    return await place.commands.json("import", str(path), *options)


@pytest.mark.parametrize(("write", "name"), [(write_zip, "a.zip"), (write_tar, "a.tar.gz")])
async def test_paths_that_lead_outside_are_refused(
    write: Callable[[Path, dict[str, bytes]], Path], name: str, sqlite_place: Place, tmp_path: Path
) -> None:
    names = ["../outside.json", "/etc/outside.json", "C:\\outside.json", "good/../../outside.json"]
    archive = write(tmp_path / name, {"good.json": GOOD} | dict.fromkeys(names, page(assistant(2))))
    report = await imported(sqlite_place, archive)
    assert report["imported"] == {"assistants": 1}
    assert {reason for _, reason in reasons(report)} == {"its path leads outside the archive"}
    assert len(reasons(report)) == len(names)
    assert sorted(names_in(tmp_path)) == [name, "place"]


async def test_links_are_not_followed(sqlite_place: Place, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_bytes(SECRET)
    objects = page(file(1, SECRET, "secret.txt"))
    directory = write_directory(tmp_path / "saved", {"files.json": objects})
    (directory / "secret.txt").symlink_to(tmp_path / "secret.txt")
    (directory / "folder").symlink_to(tmp_path)
    os.mkfifo(directory / "pipe.json")
    archive = write_tar(tmp_path / "a.tar.gz", {"files.json": objects})
    with tarfile.open(archive, "w") as tar:
        tar.add(directory / "files.json", "files.json")
        for kind, name in ((tarfile.SYMTYPE, "secret.txt"), (tarfile.LNKTYPE, "hard.json")):
            one = tarfile.TarInfo(name)
            one.type, one.linkname = kind, str(tmp_path / "secret.txt")
            tar.addfile(one)
    zipped = tmp_path / "a.zip"
    with zipfile.ZipFile(zipped, "w") as made:
        made.writestr("files.json", objects)
        link = zipfile.ZipInfo("secret.txt")
        link.external_attr = 0o120777 << 16
        made.writestr(link, str(tmp_path / "secret.txt"))
    for path, links in ((directory, 3), (archive, 2), (zipped, 1)):
        report = await imported(sqlite_place, path)
        assert report["imported"] == {}
        told = reasons(report)
        assert sum("link" in reason for _, reason in told) == links
        assert (id_of("file-", 1), "its content is not in the archive") in told


async def test_what_unpacks_to_far_more_than_its_size_is_refused(
    sqlite_place: Place, tmp_path: Path
) -> None:
    bomb = b" " * (100 * 1024 * 1024)
    for write, name in ((write_zip, "bomb.zip"), (write_tar, "bomb.tar.gz")):
        archive = write(tmp_path / name, {"a.json": bomb, "b.json": GOOD})
        refused = await sqlite_place.commands.refused("import", str(archive))
        assert refused.startswith(f"{archive} unpacks to far more than its size.")
    broken = tmp_path / "broken.zip"
    broken.write_bytes((tmp_path / "bomb.zip").read_bytes()[:-20])
    assert "broken.zip is neither" in await sqlite_place.commands.refused("import", str(broken))
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(write_tar(tmp_path / "a.tar.gz", {"a.json": GOOD * 9}).read_bytes()[:90])
    assert "Cannot read" in await sqlite_place.commands.refused("import", str(cut))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
async def test_compression_that_unpacks_without_a_bound_is_not_read(
    method: int, sqlite_place: Place, tmp_path: Path
) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("good.json", GOOD)
        made.writestr("other.json", page(assistant(2)), method)
    report = await imported(sqlite_place, archive)
    assert report["imported"] == {"assistants": 1}
    assert reasons(report) == [("other.json", "it is compressed otherwise than by deflate")]


LARGE = 2 * MAX_DOCUMENT


def header(kind: bytes, size: int) -> bytes:
    """A header of a tar with as much after it as it says."""
    one = tarfile.TarInfo("x")
    one.type, one.size = kind, size
    return one.tobuf(tarfile.GNU_FORMAT) + b"x" * size + b"\0" * (-size % tarfile.BLOCKSIZE)


def sparse() -> bytes:
    """A header of a sparse file, which says that its map goes on."""
    block = bytearray(tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT))
    block[156:157], block[482] = tarfile.GNUTYPE_SPARSE, 1
    block[148:156] = b"%06o\0 " % (256 + sum(block[:148]) + sum(block[156:]))
    numbers = b"00000000001\0" * 42 + b"\1" + b"\0" * 7
    return bytes(block) + numbers * (LARGE // tarfile.BLOCKSIZE)


HEADERS = {
    "long name": lambda: header(tarfile.GNUTYPE_LONGNAME, LARGE),
    "long link": lambda: header(tarfile.GNUTYPE_LONGLINK, LARGE),
    "attributes": lambda: header(tarfile.XHDTYPE, LARGE),
    "attributes of all": lambda: header(tarfile.XGLTYPE, LARGE),
    "map": sparse,
    "chain": lambda: header(tarfile.GNUTYPE_LONGNAME, 1) * 2_000,
}


@pytest.mark.parametrize("kind", HEADERS)
async def test_headers_of_a_tar_take_no_memory(
    kind: str, sqlite_place: Place, tmp_path: Path
) -> None:
    good = tarfile.TarInfo("good.json")
    good.size = len(GOOD)
    first = good.tobuf(tarfile.GNU_FORMAT) + GOOD + b"\0" * (-len(GOOD) % tarfile.BLOCKSIZE)
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(gzip.compress(first + HEADERS[kind]() + first + b"\0" * 1024, 1))
    tracemalloc.start()
    refused = await sqlite_place.commands.refused("import", str(archive))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused.startswith(f"Cannot read {archive}: ")
    assert peak < LARGE


WRONG = [
    ({"id": 7}, "id: Input should be a valid string"),
    ({"id": "asst_../../etc"}, "id: String should match pattern"),
    ({"id": "thread_1"}, "id: String should match pattern"),
    ({"created_at": "yesterday"}, "created_at: Input should be a valid integer"),
    ({"created_at": 2**63}, "created_at: Input should be less than or equal"),
    ({"model": None}, "model: Input should be a valid string"),
    ({"name": "\0"}, "it contains a NUL character"),
    ({"name": "x" * 257}, "name: String should have at most 256 characters"),
    ({"tools": [{"type": "browser"}]}, "tools.0: Input tag 'browser'"),
    ({"tool_resources": {"file_search": {"vector_store_ids": ["../x"]}}}, "tool_resources."),
    ({"metadata": {"a": {"b": 1}}}, "metadata.a: Input should be a valid string"),
    ({"metadata": 5}, "metadata: Input should be a valid dictionary"),
]


async def test_objects_that_are_none_are_skipped_with_their_reasons(
    sqlite_place: Place, tmp_path: Path
) -> None:
    wrong = [assistant(number) | fields for number, (fields, _) in enumerate(WRONG)]
    annotation = {"type": "file_citation", "text": "[1]"}
    text = {"type": "text", "text": {"value": "x", "annotations": [annotation]}}
    entries = {
        "all.jsonl": lines(
            assistant(99) | {"something": "new"}, *wrong, message(1, content=[text])
        ),
        "deep.json": b"[" * 5_000 + b"]" * 5_000,
        "nested.json": b'{"object":"thread","metadata":' + b"[" * 200 + b"]" * 200 + b"}",
        "none.json": b"not json",
        "number.json": b"7",
        "half.jsonl": orjson.dumps(thread(1)) + b'\n{"object":"thr\n' + orjson.dumps(thread(2)),
        "huge.jsonl": b'{"a":"' + b"x" * MAX_DOCUMENT + b'"}',
        "other.json": orjson.dumps({"object": "batch", "id": "batch_1"}),
        "mixed.json": orjson.dumps({"object": "list", "data": [thread(3), 7]}),
    }
    report = await imported(sqlite_place, write_directory(tmp_path / "saved", entries))
    assert report["imported"] == {"assistants": 1, "threads": 3}
    told = [reason for _, reason in reasons(report)]
    for _, reason in WRONG:
        assert any(one.startswith(reason) for one in told), reason
    by_place = dict(reasons(report))
    assert by_place["none.json"] == "it is not JSON"
    assert by_place["half.jsonl:2"] == "it is not JSON"
    assert by_place["number.json"] == "it holds no objects"
    assert by_place["mixed.json"] == "one of its objects is none"
    assert by_place["other.json"] == "objects of this kind are not imported: batch"
    assert by_place["huge.jsonl"].startswith("it is larger than")
    assert "nested" in by_place["nested.json"]
    assert "deep.json" in by_place
    assert "annotation" in by_place[id_of("msg_", 1)]
    assert len(told) == len(WRONG) + 9


async def test_another_project_is_out_of_reach(
    new_place: Callable[[], Place], tmp_path: Path
) -> None:
    place = new_place()
    mine = write_directory(
        tmp_path / "mine", {"a.jsonl": lines(assistant(1), thread(1), message(1))}
    )
    await imported(place, mine, "--project", "first")
    naming = message(2, 2, assistant_id=id_of("asst_", 1))
    entries = {
        "a.jsonl": lines(assistant(1), thread(1), message(1), message(3), naming, message(4, 2))
    }
    other = write_directory(tmp_path / "other", entries)
    dry = await imported(place, other, "--project", "second", "--dry-run")
    report = await imported(place, other, "--project", "second")
    assert report | {"dry_run": True} == dry
    assert report["imported"] == {"threads": 1, "messages": 1}
    assert dict(reasons(report)) == {
        id_of("asst_", 1): "its id belongs to another project",
        id_of("thread_", 1): "its id belongs to another project",
        id_of("msg_", 1): "its id belongs to another project",
        id_of("msg_", 3): "its thread belongs to another project",
        id_of("msg_", 2): f"it names {id_of('asst_', 1)}, which belongs to another project",
    }


async def test_an_archive_does_not_bring_the_bytes_of_another_projects_file_into_a_store(
    new_place: Callable[[], Place], tmp_path: Path
) -> None:
    place = new_place()
    mine = file(1, SECRET, "secret.txt")
    entries = {"a.json": page(mine), "secret.txt": SECRET}
    await imported(place, write_directory(tmp_path / "mine", entries), "--project", "first")
    entries = {"a.jsonl": lines(mine, store(1), in_store(1, 1)), "secret.txt": SECRET}
    other = write_directory(tmp_path / "other", entries)
    dry = await imported(place, other, "--project", "second", "--dry-run")
    report = await imported(place, other, "--project", "second")
    assert report | {"dry_run": True} == dry
    assert report["imported"] == {"vector stores": 1}
    assert reasons(report) == [
        (mine["id"], "its id belongs to another project"),
        (mine["id"], "the file itself is not there"),
    ]


async def test_what_differs_stays_as_it_is(sqlite_place: Place, tmp_path: Path) -> None:
    first = write_directory(tmp_path / "first", {"a.json": page(assistant(1))})
    changed = assistant(1) | {"name": "Another"}
    second = write_directory(
        tmp_path / "second",
        {"a.json": page(changed), "b.json": page(changed | {"name": "A third"})},
    )
    await imported(sqlite_place, first)
    report = await imported(sqlite_place, second)
    assert [reason for _, reason in reasons(report)] == [
        "it is there twice, and the two differ: the first is taken",
        "it is there already, and differs: it stays as it is",
    ]
    printed = await sqlite_place.commands.run("import", str(first))
    assert printed.splitlines()[1].split() == ["assistants", "0", "1", "0"]
