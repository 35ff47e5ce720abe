"""What is read from good documents, kind by kind."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.retrieval.parsing.reading import Reader, text_of
from tests.support.documents import (
    FACTS,
    add_footnote,
    handbook_pdf,
    prices_xlsx,
    report_docx,
    talk_pptx,
)
from tests.support.hostile import word
from threadloom.config import FileSearch
from threadloom.retrieval.parsing import UnreadableFile
from threadloom.retrieval.parsing.formats import supported
from threadloom.retrieval.parsing.parsers import Parsers
from threadloom.types.vector_stores import StaticChunking

pytestmark = pytest.mark.asyncio(loop_scope="module")
SMALL = StaticChunking(max_chunk_size_tokens=100, chunk_overlap_tokens=0)
GREETING = "Grüße aus Köln: «naïve» façade, 100 €."


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def reader() -> AsyncGenerator[Reader]:
    """For all documents: to start a parser takes half a second."""
    parsers = Parsers(FileSearch(tables=True, parser_timeout=60))
    yield Reader(parsers)
    await parsers.close()


async def test_a_pdf_gives_each_fact_with_its_page_and_heading(
    reader: Reader, tmp_path: Path
) -> None:
    path = tmp_path / "handbook.pdf"
    handbook_pdf(path)
    chunks = await reader.chunks(path, SMALL)
    for fact in FACTS:
        [chunk] = [c for c in chunks if fact.answer in " ".join(c.text.split())]
        assert chunk.page == fact.page
        assert fact.heading == chunk.heading or f"\n{fact.heading}\n" in chunk.text


async def test_columns_of_a_pdf_are_read_one_after_the_other(
    reader: Reader, tmp_path: Path
) -> None:
    path = tmp_path / "handbook.pdf"
    handbook_pdf(path)
    page = " ".join(" ".join(c.text for c in await reader.chunks(path) if c.page == 3).split())
    assert "The filter must be rinsed every nine days, with cold water." in page
    assert page.index("rinsed") < page.index("Signals") < page.index("A long beep means that")


async def test_a_word_document_keeps_its_order(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "report.docx"
    report_docx(path)
    [chunk] = await reader.chunks(path)
    assert chunk.heading == "Yearly report"
    assert chunk.text == (
        "Yearly report\n\nThe year was mild.\n\nHarvest\n\nApples were plenty.\n\n"
        "Fruit | Tons\nApples | 41\nPears | 7\n\nLosses\n\nHail took the cherries."
    )


async def test_a_word_document_gives_all_that_is_shown_and_nothing_twice(
    reader: Reader, tmp_path: Path
) -> None:
    path = tmp_path / "report.docx"
    box = "<w:p><w:r><w:t>in a box</w:t></w:r></w:p>"
    word(
        "<w:p><w:r><w:t>one</w:t><w:tab/><w:t>two</w:t><w:br/><w:t>three</w:t></w:r></w:p>"
        "<w:sdt><w:sdtContent><w:p><w:r><w:t>in a field</w:t></w:r></w:p></w:sdtContent></w:sdt>"
        f"<w:p><w:r><c:AlternateContent xmlns:c='c'><c:Choice>{box}</c:Choice><c:Fallback>{box}</c:Fallback>"
        "</c:AlternateContent><w:t>around the box</w:t></w:r></w:p>"
        "<w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:ins><w:r><w:t>come</w:t></w:r></w:ins></w:p>"
        "<w:p><w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom><w:moveTo><w:r><w:t>moved</w:t></w:r></w:moveTo></w:p>"
        "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>cell</w:t></w:r></w:p><w:tbl><w:tr><w:tc><w:p><w:r><w:t>inner</w:t></w:r></w:p>"
        "</w:tc></w:tr></w:tbl></w:tc><w:tc><w:p/></w:tc><w:tc><w:p><w:r><w:t>last</w:t></w:r></w:p></w:tc></w:tr></w:tbl>"
    )(path)
    assert text_of(await reader.chunks(path)) == (
        "one\ttwo\nthree\n\nin a field\n\nin a box\n\naround the box\n\ncome\n\nmoved\n\ncell inner |  | last"
    )


async def test_footnotes_follow_the_document(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "report.docx"
    report_docx(path)
    add_footnote(path, "Counted by hand.")
    assert (await reader.chunks(path))[-1].text.endswith("cherries.\n\nCounted by hand.")


async def test_a_presentation_has_a_page_for_each_slide(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "talk.pptx"
    talk_pptx(
        path, [("Bees", "They dance.\nThey sing.", "Smile here."), ("Wasps", "They sting.", "")]
    )
    chunks = await reader.chunks(path)
    assert [(c.page, c.heading, c.text) for c in chunks] == [
        (1, "Bees", "Bees\n\nThey dance.\nThey sing.\nSmile here."),
        (2, "Wasps", "Wasps\n\nThey sting."),
    ]


async def test_rows_of_a_workbook_stand_under_their_header(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "prices.xlsx"
    prices_xlsx(path, 400)
    chunks = await reader.chunks(path, SMALL)
    prices = [c for c in chunks if c.heading == "Prices"]
    assert len(prices) > 10
    assert all(c.text.startswith("Prices\nArticle | Price | Since\nScrew ") for c in prices)
    assert sum(c.text.count("Screw ") for c in prices) == 400
    assert "Screw 2 | 0.5 | 2024" in text_of(prices)
    assert chunks[-1].text == "Notes\nPrices are net."


async def test_rows_of_a_csv_stand_under_their_header(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("Article;Price\n" + "".join(f'"Screw; {n}";{n}\n' for n in range(300)))
    chunks = await reader.chunks(path, SMALL)
    assert all(c.text.startswith("Article | Price\nScrew; ") for c in chunks)
    assert sum(c.text.count("Screw; ") for c in chunks) == 300


async def test_the_lines_of_a_cell_stay_apart(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "notes.csv"
    path.write_bytes(b'Name,Note\r\nAda,"first line\r\nsecond line\n\nlast"\r\nBob,none\r\n')
    [chunk] = await reader.chunks(path)
    assert chunk.text == "Name | Note\nAda | first line second line last\nBob | none"


async def test_html_gives_what_a_browser_shows(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(
        "<html><head><title>Bees</title><style>b{}</style><script>steal()</script></head><body>"
        "<h1>How   bees\ndance</h1><p>In <b>circles</b> &amp; eights.<br>Always.<!-- no --></p>"
        "<ul><li>round</li><li> <p>waggle</p></li><li></li></ul><table><tr><th>Kind</th><th>Far</th></tr>"
        "<tr><td>round</td><td>no</td></tr></table><pre>a\n  b</pre></body></html>"
    )
    [chunk] = await reader.chunks(path)
    assert chunk.heading == "Bees"
    assert chunk.text == (
        "Bees\n\nHow bees dance\n\nIn circles & eights.\nAlways.\n\n- round\n\n- waggle\n\n"
        "Kind | Far\nround | no\n\na\n  b"
    )


async def test_html_in_the_encoding_it_names(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_bytes('<meta charset="windows-1251"><p>Пчёлы танцуют</p>'.encode("cp1251"))
    assert text_of(await reader.chunks(path)) == "Пчёлы танцуют"


async def test_a_page_in_latin_1_is_read_as_browsers_read_it(
    reader: Reader, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_bytes('<meta charset="ISO-8859-1"><p>“Grüße”, 5 €…</p>'.encode("cp1252"))
    assert text_of(await reader.chunks(path)) == "“Grüße”, 5 €…"


@pytest.mark.parametrize(
    "named",
    ["utf-16", "utf-16be", "undefined", "unicode_escape", "utf-7", "idna", "cp037", "hex", "none"],
)
async def test_an_encoding_that_html_cannot_be_in_is_not_believed(
    named: str, reader: Reader, tmp_path: Path
) -> None:
    text = r"C:\new +AEE- a.xn--mnchen-3ya.b"
    page = f'<meta charset="{named}"><p>{text}</p>'
    path = tmp_path / "page.html"
    path.write_bytes(page.encode() + b" " * (len(page) % 2))
    assert text_of(await reader.chunks(path)) == text


async def test_the_mark_of_a_page_counts_more_than_what_it_says(
    reader: Reader, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(f'<meta charset="windows-1252"><p>{GREETING}</p>'.encode("utf-8-sig"))
    assert text_of(await reader.chunks(path)) == GREETING


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "cp1252"],
)
async def test_text_in_any_encoding(encoding: str, reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_bytes(f"{GREETING}\n{GREETING}".encode(encoding))
    assert text_of(await reader.chunks(path)) == f"{GREETING}\n{GREETING}"


async def test_one_wrong_byte_does_not_change_how_the_rest_is_read(
    reader: Reader, tmp_path: Path
) -> None:
    path = tmp_path / "note.txt"
    path.write_bytes((GREETING * 100).encode() + b"\xff" + GREETING.encode())
    text = "".join(c.text for c in await reader.chunks(path, SMALL))
    assert text.count("Köln") > 90
    assert "\ufffd" in text


async def test_headings_in_code_blocks_are_none(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "note.md"
    path.write_text(
        "Title\n=====\n\n```\n# no title\n```\n" + "word " * 200 + "\n\n## Last ##\n\nend."
    )
    chunks = await reader.chunks(path, SMALL)
    assert {c.heading for c in chunks} == {"Title"}


async def test_sections_of_tex_are_headings(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "paper.tex"
    path.write_text("\\section{Bees}\nThey dance.")
    [chunk] = await reader.chunks(path)
    assert chunk.heading == "Bees"


@pytest.mark.parametrize(
    "name", ["a.c", "a.cpp", "a.cs", "a.css", "a.go", "a.java", "a.js", "a.json"]
)
async def test_code_is_taken_as_it_is(name: str, reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("if (a) {\n    b();\n}\n")
    assert text_of(await reader.chunks(path)) == "if (a) {\n    b();\n}"


async def test_the_kinds_that_openai_took_are_taken() -> None:
    taken = [
        "c",
        "cpp",
        "cs",
        "css",
        "doc",
        "docx",
        "go",
        "html",
        "java",
        "js",
        "json",
        "md",
        "pdf",
        "php",
        "pptx",
        "py",
        "rb",
        "sh",
        "tex",
        "ts",
        "txt",
    ]
    assert all(supported(f"a.{kind}", tables=False) for kind in taken)
    assert supported("Annual Report.PDF", tables=False)
    refused = ["a.csv", "a.xlsx", "a.jsonl", "a.png", "a", ".txt", "a.pdf.exe", ""]
    assert not any(supported(name, tables=False) for name in refused)
    assert supported("a.csv", tables=True)
    assert supported("a.xlsx", tables=True)


async def test_tables_are_refused_unless_they_are_enabled(tmp_path: Path) -> None:
    parsers = Parsers(FileSearch())
    with pytest.raises(UnreadableFile, match=r"\[.csv\] are not supported") as caught:
        await Reader(parsers).chunks(tmp_path / "a.csv")
    assert caught.value.code == "unsupported_file"
