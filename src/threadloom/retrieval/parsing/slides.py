"""PowerPoint presentations: a section for each slide, with the speaker's notes."""

from collections.abc import Iterator
from pathlib import Path

from threadloom.retrieval.parsing.archives import Archive
from threadloom.retrieval.parsing.blocks import Blocks
from threadloom.retrieval.parsing.sections import Section, invalid
from threadloom.retrieval.parsing.trees import Element, Event, attribute, forget

MAIN = "ppt/presentation.xml"
MAX_SLIDES = 20_000
TAGS = frozenset({"sp", "graphicFrame", "ph", "t", "br", "p", "tr"})
TITLES = frozenset({"title", "ctrTitle"})
# The same on every slide, and on every page of notes.
FURNITURE = frozenset({"sldNum", "dt", "ftr", "hdr", "sldImg"})


def read_pptx(path: Path) -> Iterator[Section]:
    archive = Archive(path, "PowerPoint presentation (.pptx)")
    slides = [*slides_of(archive)]
    if len(slides) > MAX_SLIDES:
        raise invalid(f"it has more than {MAX_SLIDES:,} slides. Split it into smaller files.")
    for number, part in enumerate(slides, 1):
        slide = Slide()
        slide.read(archive, part)
        for kind, notes in archive.relations(part).values():
            if kind == "notesSlide" and notes in archive:
                slide.read(archive, notes)
        yield slide.blocks.section(page=number, reach=number / len(slides))


def slides_of(archive: Archive) -> Iterator[str]:
    """The parts with slides, in the order in which they are shown."""
    main = archive.main_part(MAIN)
    parts = archive.relations(main)
    for event, _, element in archive.elements(main, {"sldId"}):
        if event == "end":
            kind, part = parts.get(relation(element), ("", ""))
            if kind == "slide" and part in archive:
                yield part


def relation(element: Element) -> str:
    """`r:id`, which stands beside an `id` of another kind."""
    return next((v for k, v in element.attrib.items() if k.endswith("}id")), "")


class Slide:
    """Builds the text of a slide from its tags."""

    def __init__(self) -> None:
        self.blocks = Blocks()
        self._placeholder = ""
        self._text: list[str] = []
        self._cells: list[str] | None = None

    def read(self, archive: Archive, part: str) -> None:
        for event, tag, element in archive.elements(part, TAGS):
            self._take(event, tag, element)

    def _take(self, event: Event, tag: str, element: Element) -> None:
        if event == "start":
            if tag in {"sp", "graphicFrame"}:
                self._placeholder = ""
            elif tag == "tr":
                self._cells = []
            return
        match tag:
            case "ph":
                self._placeholder = attribute(element, "type") or ""
            case "t":
                self._text.append(element.text or "")
            case "br":
                self._text.append("\n")
            case "p":
                self._end_paragraph()
                forget(element)
            case "tr":
                self._end_row()
                forget(element)
            case _:
                pass

    def _end_paragraph(self) -> None:
        text = "".join(self._text)
        self._text = []
        if self._cells is not None:
            self._cells.append(" ".join(text.split()))
        elif self._placeholder in TITLES:
            self.blocks.title(text)
        elif self._placeholder not in FURNITURE:
            self.blocks.line(text)

    def _end_row(self) -> None:
        self.blocks.line(" | ".join(self._cells or []))
        self._cells = None
