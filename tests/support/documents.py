"""Documents as people upload them: a handbook as a PDF with tables, headings and two columns, and its Office relatives."""

import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import docx
import openpyxl
import pptx
from pptx.shapes.placeholder import SlidePlaceholder
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    NextPageTemplate,
    PageBreak,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
)

MARGIN = 60
GUTTER = 24


@dataclass(frozen=True)
class Fact:
    """Something the handbook says in one place only."""

    question: str
    answer: str
    page: int
    heading: str


FACTS = (
    Fact("How long is the warranty of the pump?", "thirty-one months", 1, "Warranty"),
    Fact("Which pressure does the model K-40 have?", "K-40", 2, "Technical data"),
    Fact("How often must the filter be rinsed?", "every nine days", 3, "Care"),
    Fact("What does a long beep mean?", "the tank is empty", 3, "Signals"),
    Fact("Where is the old battery taken?", "the depot in Halle", 4, "Disposal"),
)
FILLER = (
    "This part of the handbook is written for owners who have read the safety notes and have placed the machine on level "
    "ground. Keep the booklet near the machine, and pass it on with the machine when it changes hands. "
)
MODELS = (
    ("Model", "Pressure", "Weight", "Noise"),
    ("K-20", "2.1 bar", "14 kg", "51 dB"),
    ("K-40", "4.7 bar", "19 kg", "54 dB"),
    ("K-60", "6.3 bar", "27 kg", "58 dB"),
)


def handbook_pdf(path: Path) -> None:
    """Four pages: prose, a table, two columns, prose. `FACTS` says what stands where."""
    width, height = A4
    inner, tall = width - 2 * MARGIN, height - 2 * MARGIN
    half = (inner - GUTTER) / 2
    document = BaseDocTemplate(str(path), title="Handbook of the Karlsruhe garden pump")
    document.addPageTemplates(
        [
            PageTemplate("one", [Frame(MARGIN, MARGIN, inner, tall)]),
            PageTemplate(
                "two",
                [
                    Frame(MARGIN, MARGIN, half, tall),
                    Frame(MARGIN + half + GUTTER, MARGIN, half, tall),
                ],
            ),
        ]
    )
    document.build([*handbook()])


def handbook() -> Iterator[Flowable]:
    yield title("Handbook of the Karlsruhe garden pump", 1)
    yield body(FILLER * 2)
    yield title("Warranty")
    yield body(f"{FILLER} The warranty of the pump runs for thirty-one months from its purchase.")
    yield PageBreak()
    yield title("Technical data")
    yield body(FILLER)
    yield Table(MODELS)
    yield NextPageTemplate("two")
    yield PageBreak()
    yield title("Care")
    yield body(FILLER * 3)
    yield body("The filter must be rinsed every nine days, with cold water.")
    yield body(FILLER * 7)
    yield title("Signals")
    yield body(FILLER)
    yield body("A long beep means that the tank is empty. Two short ones mean that all is well.")
    yield NextPageTemplate("one")
    yield PageBreak()
    yield title("Disposal")
    yield body(f"{FILLER} An old battery is taken to the depot in Halle, on any weekday.")
    yield Spacer(1, 10)


def title(text: str, level: int = 2) -> Paragraph:
    return Paragraph(text, getSampleStyleSheet()[f"Heading{level}"])


def body(text: str) -> Paragraph:
    return Paragraph(text, getSampleStyleSheet()["BodyText"])


def long_pdf(path: Path, pages: int) -> None:
    """Prose, about 450 words a page, and a number of its own on each."""
    document = BaseDocTemplate(str(path))
    document.addPageTemplates([PageTemplate("one", [Frame(MARGIN, MARGIN, *frame_of(A4))])])
    document.build(list(prose(pages)))


def frame_of(size: tuple[float, float]) -> tuple[float, float]:
    return size[0] - 2 * MARGIN, size[1] - 2 * MARGIN


def prose(pages: int) -> Iterator[Flowable]:
    for number in range(1, pages + 1):
        yield title(f"Chapter {number}")
        for part in range(4):
            yield body(f"Pump {number * 10 + part} stands in hall {number * 7}. " + FILLER * 2)
        yield PageBreak()


def report_docx(path: Path) -> None:
    """A title, headings, paragraphs, a table between them and a list."""
    document = docx.Document()
    document.add_heading("Yearly report", 0)
    document.add_paragraph("The year was mild.")
    document.add_heading("Harvest", 1)
    document.add_paragraph("Apples were plenty.")
    rows = (("Fruit", "Tons"), ("Apples", "41"), ("Pears", "7"))
    table = document.add_table(0, 2)
    for row in rows:
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    document.add_heading("Losses", 2)
    document.add_paragraph("Hail took the cherries.", style="List Bullet")
    document.save(str(path))


def add_footnote(path: Path, text: str) -> None:
    """To a Word document, as a part of its own; no library of ours writes them."""
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    namespace = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    relations = parts["word/_rels/document.xml.rels"].decode()
    note = f'<Relationship Id="note" Type="{office}/footnotes" Target="footnotes.xml"/>'
    parts["word/_rels/document.xml.rels"] = relations.replace("</R", f"{note}</R").encode()
    parts["word/footnotes.xml"] = (
        f'<w:footnotes xmlns:w="{namespace}"><w:footnote><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:footnote>'
        "</w:footnotes>"
    ).encode()
    with zipfile.ZipFile(path, "w") as file:
        for name, content in parts.items():
            file.writestr(name, content)


def talk_pptx(path: Path, slides: Iterable[tuple[str, str, str]]) -> None:
    """A slide for each title, text and note."""
    talk = pptx.Presentation()
    for heading, text, note in slides:
        slide = talk.slides.add_slide(talk.slide_layouts[1])
        for shape, words in zip(slide.placeholders, (heading, text), strict=True):
            assert isinstance(shape, SlidePlaceholder)
            shape.text = words
        if note:
            frame = slide.notes_slide.notes_text_frame
            assert frame is not None
            frame.text = note
    talk.save(str(path))


def prices_xlsx(path: Path, rows: int) -> None:
    """Two sheets, the first with many rows under a header."""
    book = openpyxl.Workbook(write_only=True)
    prices = book.create_sheet("Prices")
    prices.append(["Article", "Price", "Since"])
    for number in range(rows):
        prices.append([f"Screw {number}", number / 4, None if number % 2 else "2024"])
    book.create_sheet("Notes").append(["Prices are net."])
    book.save(path)
