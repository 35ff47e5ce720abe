"""Word documents: paragraphs, headings and tables in their order, then the notes."""

import re
from collections.abc import Iterator
from pathlib import Path

from threadloom.retrieval.parsing.archives import Archive
from threadloom.retrieval.parsing.blocks import Blocks
from threadloom.retrieval.parsing.sections import Section
from threadloom.retrieval.parsing.trees import Element, Event, attribute, forget

MAIN = "word/document.xml"
TITLE_STYLE = re.compile(r"(title|heading [1-9])$", re.IGNORECASE)
# What Word shows in another place, or keeps for programs that do not know the newer form beside it.
HIDDEN = frozenset({"Fallback", "moveFrom", "del"})
NOTES = ("footnotes", "endnotes")
SPECIAL = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
TAGS = HIDDEN | {"p", "tr", "tc", "t", "pStyle", "outlineLvl", *SPECIAL}


def read_docx(path: Path) -> Iterator[Section]:
    archive = Archive(path, "Word document (.docx)")
    main = archive.main_part(MAIN)
    relations = [*archive.relations(main).values()]
    styles = next((part for kind, part in relations if kind == "styles"), "")
    story = Story(title_styles(archive, styles) if styles in archive else set())
    for part in (main, *(part for kind, part in relations if kind in NOTES)):
        for event, tag, element in archive.elements(part, TAGS):
            story.take(event, tag, element)
    yield story.blocks.section()


def title_styles(archive: Archive, part: str) -> set[str]:
    """The ids of the styles that make headings, also of those that build on them."""
    titles: set[str] = set()
    current = ""
    for event, tag, element in archive.elements(part, {"style", "name", "basedOn"}):
        value = attribute(element, "val") or ""
        if event == "start" and tag == "style":
            current = attribute(element, "styleId") or ""
        elif event == "end" and (
            (tag == "name" and TITLE_STYLE.match(value)) or (tag == "basedOn" and value in titles)
        ):
            titles.add(current)
    return titles


class Story:
    """Builds the text of a document from its tags."""

    def __init__(self, titles: set[str]) -> None:
        self.blocks = Blocks()
        self._titles = titles
        self._hidden = 0
        # Paragraphs may hold text boxes with paragraphs, and cells hold tables.
        self._paragraphs: list[list[str]] = []
        self._cells: list[list[str]] = []
        self._rows: list[list[str]] = []
        self._is_title = False

    def take(self, event: Event, tag: str, element: Element) -> None:
        if tag in HIDDEN:
            self._hidden += 1 if event == "start" else -1
        if self._hidden:
            return
        if event == "start":
            self._begin(tag)
        else:
            self._end(tag, element)

    def _begin(self, tag: str) -> None:
        if tag == "p":
            self._paragraphs.append([])
            self._is_title = False
        elif tag == "tr":
            self._rows.append([])
        elif tag == "tc":
            self._cells.append([])

    def _end(self, tag: str, element: Element) -> None:
        match tag:
            case "t" if self._paragraphs:
                self._paragraphs[-1].append(element.text or "")
            case "tab" | "br" | "cr" | "noBreakHyphen" if self._paragraphs and in_run(element):
                self._paragraphs[-1].append(SPECIAL[tag])
            case "pStyle":
                self._is_title = attribute(element, "val") in self._titles
            case "outlineLvl" if self._paragraphs:
                self._is_title = self._is_title or attribute(element, "val") != "9"
            case "p":
                self._end_paragraph()
                forget(element)
            case "tc":
                self._rows[-1].append(" ".join(self._cells.pop()))
            case "tr":
                self._end_row()
                forget(element)
            case _:
                pass

    def _end_paragraph(self) -> None:
        text = "".join(self._paragraphs.pop())
        if self._cells:
            self._cells[-1].append(text)
        elif self._is_title:
            self.blocks.title(text)
        else:
            self.blocks.paragraph(text)
        self._is_title = False

    def _end_row(self) -> None:
        row = " | ".join(self._rows.pop())
        if self._cells:
            self._cells[-1].append(row)
        elif row.strip(" |"):
            self.blocks.line(row)


def in_run(element: Element) -> bool:
    """Whether it is a part of the text; the same names stand in the settings of a paragraph."""
    parent = element.getparent()
    return parent is not None and parent.tag.endswith("}r")
