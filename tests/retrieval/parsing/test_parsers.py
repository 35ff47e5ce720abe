"""Parsers as processes: they are reused, they end when they should, and what breaks one is not felt by the next."""

from pathlib import Path

from tests.retrieval.parsing.reading import Reader, text_of


async def test_a_text_is_read_in_a_process_of_its_own(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_text("Bees dance.\r\nThey show the way.\0")
    [chunk] = await reader.chunks(path)
    assert chunk.text == "Bees dance.\nThey show the way."
    assert (chunk.start, chunk.end, chunk.page, chunk.heading) == (0, 30, None, None)
    assert chunk.terms


async def test_a_heading_of_markdown_is_known_below_it(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "note.md"
    path.write_text("# Bees\n\nThey dance.\n")
    assert [chunk.heading for chunk in await reader.chunks(path)] == ["Bees"]


async def test_an_empty_file_fails_as_it_did_at_openai(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "empty.txt"
    path.touch()
    failure = await reader.failure(path)
    assert failure.code == "invalid_file"
    assert failure.message == "The file could not be parsed because it is empty."


async def test_a_parser_goes_on_after_a_document_that_failed(
    reader: Reader, tmp_path: Path
) -> None:
    bad, good = tmp_path / "bad.pdf", tmp_path / "good.txt"
    bad.write_bytes(b"no pdf")
    good.write_text("Bees dance.")
    assert "it is no PDF" in (await reader.failure(bad)).message
    assert text_of(await reader.chunks(good)) == "Bees dance."
