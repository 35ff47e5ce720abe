"""Where the headings of Markdown and TeX stand; their text is taken as it is."""

import re
from collections.abc import Iterator

from threadloom.retrieval.parsing.sections import Heading

FENCE = re.compile(r" {0,3}(```+|~~~+)")
TITLE = re.compile(r" {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*$")
UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
TEX_TITLE = re.compile(
    r"\\(?:part|chapter|(?:sub){0,2}section|paragraph)\*?(?:\[[^\]\n]*\])?\{([^{}\n]{1,300})"
)


def markdown_headings(text: str) -> Iterator[Heading]:
    """`# Title` and underlined titles, but not what looks so inside a block of code."""
    at, previous, fence = 0, "", ""
    for line in text.split("\n"):
        if mark := FENCE.match(line):
            fence = "" if fence and mark[1].startswith(fence) else fence or mark[1]
        elif not fence and (title := TITLE.match(line)) and title[1]:
            yield Heading(at, title[1])
        elif not fence and previous.strip() and UNDERLINE.match(line):
            yield Heading(at - len(previous) - 1, previous.strip())
        previous = "" if fence or TITLE.match(line) else line
        at += len(line) + 1


def tex_headings(text: str) -> Iterator[Heading]:
    for match in TEX_TITLE.finditer(text):
        yield Heading(match.start(), match[1].strip())
