"""HTML to text: blocks as paragraphs, tables as rows, and nothing that a browser would not show."""

import codecs
import re
from contextlib import suppress

from threadloom.retrieval.parsing.blocks import Blocks
from threadloom.retrieval.parsing.decoding import decode
from threadloom.retrieval.parsing.sections import Section
from threadloom.retrieval.parsing.trees import walk_html

TITLES = frozenset({"title", "h1", "h2", "h3", "h4", "h5", "h6"})
LINES = frozenset({"dd", "dt", "li", "option", "tr"})
CELLS = frozenset({"td", "th"})
HIDDEN = frozenset(
    {"script", "style", "noscript", "template", "svg", "math", "iframe", "object", "datalist"}
)
PARAGRAPHS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "caption",
        "details",
        "dialog",
        "div",
        "dl",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "header",
        "hr",
        "legend",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "tbody",
        "tfoot",
        "thead",
        "ul",
    ]
)
CHARSET = re.compile(
    rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{2,40})""", re.IGNORECASE
)
SAMPLE = 4096
# A page that names its encoding in ASCII is in one that reads ASCII so. UTF-16 does not, nor EBCDIC, nor what only Python calls encodings.
ASCII = rb"<A>\u0041+AEE-.xn--mnchen-3ya"
BULLET = "- "
# What browsers read for what pages say: with printed characters, quotation marks among them, where these have control characters.
BROWSERS = {"iso8859-1": "cp1252", "iso8859-9": "cp1254"}
# Stands for a `<br>` until white space has been made equal; no HTML can hold it.
BREAK = "\0"


def read_html(data: bytes) -> Section:
    """The whole document as one section."""
    page = Page()
    walker = walk_html(html_text(data))
    for event, element in walker:
        if event == "end":
            page.end(element.tag)
            page.text(element.tail)
        elif element.tag in HIDDEN:
            walker.skip_subtree()
        else:
            page.begin(element.tag)
            page.text(element.text)
    return page.blocks.section()


def html_text(data: bytes) -> str:
    """By the page's own word on its encoding, if it says one that exists and fits; a mark at its beginning counts more."""
    found = CHARSET.search(data[:SAMPLE])
    if found and not data.startswith(codecs.BOM_UTF8):
        with suppress(LookupError, UnicodeError):
            return decode_named(data, found[1].decode())
    return decode(data)


def decode_named(data: bytes, encoding: str) -> str:
    """Raises LookupError or UnicodeError for an encoding that this page is not in."""
    if ASCII.decode(encoding) != ASCII.decode():
        raise LookupError(encoding)
    return data.decode(BROWSERS.get(codecs.lookup(encoding).name, encoding))


class Page:
    """Collects text until a tag ends its block."""

    def __init__(self) -> None:
        self.blocks = Blocks()
        self._text: list[str] = []
        self._preformatted = 0

    def begin(self, name: str) -> None:
        if name == "br":
            self._text.append(BREAK)
        elif name in CELLS and self._text:
            self._text.append(" | ")
        elif (name in PARAGRAPHS or name in TITLES or name in LINES) and not self._bullet_only():
            self._flush(name)
        if name == "pre":
            self._preformatted += 1
        elif name == "li":
            self._text.append(BULLET)

    def end(self, name: str) -> None:
        if name in TITLES:
            self.blocks.title("".join(self._text))
            self._text = []
        elif name in PARAGRAPHS or name in LINES:
            self._flush(name)
        if name == "pre":
            self._preformatted -= 1

    def text(self, text: str | None) -> None:
        if text:
            self._text.append(text)

    def _bullet_only(self) -> bool:
        """A paragraph in a list's item stands beside the bullet."""
        return "".join(self._text).strip() == BULLET.strip()

    def _flush(self, name: str) -> None:
        text = "" if self._bullet_only() else "".join(self._text)
        self._text = []
        if not self._preformatted:
            text = BREAK.join(" ".join(line.split()) for line in text.split(BREAK))
        text = text.replace(BREAK, "\n")
        if name in LINES:
            self.blocks.line(text)
        else:
            self.blocks.paragraph(text)
