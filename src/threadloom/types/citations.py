"""Markers: how passages are shown to a model, how it cites them, and how models mangle that.

A marker is `【m:n†label】`: `m` counts the searches of a run, `n` the passages of that search, the label is the file's name.
Models lose daggers, change brackets, put two into one bracket or invent a label. What can still be read is read here;
whether it names a passage is for `runs/citations.py` to say.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST = 300
"""Characters that a marker may have: no text is held back for longer."""
LONGEST_LABEL = 80
NO_NAME = "file"
LENTICULAR = "【"
OPENERS = "【[\uff3b"
CLOSERS = "】]\uff3d"

SPACE = r"[ \t\u3000]{0,3}"
NUMBER = r"[0-9]{1,4}"
COLON = r"[:\uff1a]"
DAGGER = "[†‡]"
PAIR = f"(?P<call>{NUMBER}){SPACE}{COLON}{SPACE}(?P<index>{NUMBER})"
WITH_LABEL = f"(?:{SPACE}{DAGGER}(?P<label>[^†‡\\n]*)|[ \\t\\u3000](?P<bare>[^†‡\\n]*))"
CITATION = re.compile(
    f"{SPACE}(?:{PAIR}(?:{WITH_LABEL})?"
    f"|(?P<number>{NUMBER})?{SPACE}{DAGGER}(?P<label_alone>[^†‡\\n]*)){SPACE}"
)
STARTS = re.compile(f"{SPACE}(?:{NUMBER}{SPACE}(?:{COLON}|{DAGGER})|{DAGGER})")
SEPARATOR = re.compile(
    f"{SPACE}[,;\uff0c\uff1b\u3001]{SPACE}(?={NUMBER}{SPACE}(?:{COLON}|{DAGGER}))"
)
AFTER_PAIR = f"(?:{SPACE}[†‡,;\uff0c\uff1b\u3001].*|[ \\t\\u3000].*)?"
# Every beginning of what CITATION reads; nothing else is held back while it arrives.
BEGINNING = re.compile(
    f"{SPACE}(?:{DAGGER}.*|{NUMBER}{SPACE}(?:{DAGGER}.*|{COLON}{SPACE}(?:{NUMBER}{AFTER_PAIR})?)?)?"
)
INSIDE = re.compile("[^\\n\\r【】\\[\\]\uff3b\uff3d]*")
BRACKETED = re.compile("([【\\[\uff3b])([^\\n\\r【】\\[\\]\uff3b\uff3d]+)[】\\]\uff3d]")

UNCLOSED = re.compile(
    "([【\\[\uff3b])([^\\n\\r【】\\[\\]\uff3b\uff3d]*)(?=[\\n\\r【\\[\uff3b]|\\Z)"
)
INDEXED = re.compile(r"[\w)\]}\"'`]")

NOT_IN_LABEL = str.maketrans(
    {"【": "(", "[": "(", "\uff3b": "(", "】": ")", "]": ")", "\uff3d": ")", "<": "(", ">": ")"}
    | {'"': "'", "†": "+", "‡": "+"}
)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
TAG = re.compile(r"<(?=/?passage)", re.IGNORECASE)
FENCED = re.compile(
    r'<passage marker="([^"]*)"(?: page="\d+")?(?: heading="([^"]*)")?>\n(.*?)\n</passage>',
    re.DOTALL,
)


@dataclass(frozen=True)
class Citation:
    """What a model wrote between brackets: numbers or a label, or both."""

    call: int | None
    index: int | None
    label: str
    has_dagger: bool


@dataclass(frozen=True)
class Passage:
    """A passage as a model hears it."""

    marker: str
    text: str
    heading: str


def label_of(name: str) -> str:
    """A file's name as a marker can hold it."""
    shown = " ".join(CONTROL.sub(" ", name).translate(NOT_IN_LABEL).split())
    cut = shown if len(shown) <= LONGEST_LABEL else shown[: LONGEST_LABEL - 1] + "…"
    return cut or NO_NAME


def marker_of(call: int, index: int, label: str) -> str:
    return f"【{call}:{index}†{label}】"


def may_begin_citation(inside: str) -> bool:
    """Whether text that follows an opening bracket can still become a citation."""
    return len(inside) < LONGEST and BEGINNING.fullmatch(inside) is not None


def read_citations(inside: str) -> list[Citation] | None:
    """The citations between two brackets; None when it is something else."""
    if len(inside) >= LONGEST:
        return None
    found = [CITATION.fullmatch(part) for part in SEPARATOR.split(inside)]
    citations = [citation_of(match) for match in found if match]
    return citations if len(citations) == len(found) else None


def citation_of(match: re.Match[str]) -> Citation:
    part = match.groupdict()
    index = part["index"] or part["number"]
    with_dagger = part["label"] if part["label"] is not None else part["label_alone"]
    return Citation(
        call=int(part["call"]) if part["call"] else None,
        index=int(index) if index else None,
        label=" ".join((with_dagger or part["bare"] or "").split()),
        has_dagger=with_dagger is not None,
    )


def defuse(text: str) -> str:
    """Text of a file that cannot be taken for a marker, nor end the passage it stands in."""
    closed = BRACKETED.sub(in_parentheses, text)
    return TAG.sub("\u2039", UNCLOSED.sub(after_parenthesis, closed))


def in_parentheses(match: re.Match[str]) -> str:
    citations = read_citations(match[2])
    before = match.string[max(match.start() - 1, 0) : match.start()]
    if citations is None or not is_marker(match[1], citations, before=before):
        return match[0]
    return f"({match[2]})"


def after_parenthesis(match: re.Match[str]) -> str:
    """What would be a marker if the text ended within it."""
    opener, inside = match.groups()
    cut_short = counts_unclosed(opener, inside) and STARTS.match(inside)
    return f"({inside}" if cut_short else match[0]


def counts_unclosed(opener: str, inside: str) -> bool:
    """Whether a bracket at the end of an answer was a marker that was cut short, and no slice."""
    return opener == LENTICULAR or "†" in inside or "‡" in inside


def is_marker(opener: str, citations: list[Citation], *, before: str) -> bool:
    """`[1:3]` is a slice when a name or a bracket stands before it, and `[12:30 noon]` is anything but a marker."""
    if opener == LENTICULAR or any(one.has_dagger for one in citations):
        return True
    bare = not any(one.label for one in citations)
    return bare and not INDEXED.fullmatch(before)


def fence(marker: str, text: str, *, page: int | None, heading: str | None) -> str:
    """A passage as the model hears it."""
    place = f' page="{page}"' if page is not None else ""
    place += f' heading="{label_of(heading)}"' if heading else ""
    return f'<passage marker="{marker}"{place}>\n{defuse(text)}\n</passage>'


def fenced(heard: str) -> Iterator[Passage]:
    """The passages in what a model heard."""
    for marker, heading, text in FENCED.findall(heard):
        yield Passage(marker, text, heading)
