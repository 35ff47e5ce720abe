"""How the embedded model uses the code interpreter: what it runs for a question, and what it says of what came out.

It has three programs: Python that the user wrote, sums, and one analysis of any table. What it says then is what they printed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import orjson

from threadloom.llm.arithmetic import expressions
from threadloom.llm.arithmetic import program as sums_program
from threadloom.llm.chat import Function
from threadloom.llm.tables import EXTENSIONS, FINDINGS, Analysis

CODE_INTERPRETER = "code_interpreter"
WHAT_IT_RUNS = (
    "With the code interpreter I run Python that you write between ``` marks, I calculate, and I make one standard analysis of "
    f"an attached table ({', '.join(EXTENSIONS)})."
)
DATA = "/mnt/data/"
LONGEST_OUTPUT = 4_000
MOST_WORDS = 100
SHORTEST_NAME = 3

FENCE = re.compile(
    r"^[ \t]*(`{3,})([^`\n]*)\n(.*?)(?:^[ \t]*\1`*[ \t]*$|\Z)", re.DOTALL | re.MULTILINE
)
PYTHON = frozenset(("python", "python3", "py", "ipython"))
ASKS_TO_RUN = re.compile(r"\b(?:python|run|execute|evaluate|code)\b", re.IGNORECASE)

FILE = re.compile(rf"^- {DATA}(.+) \((?:(\S+), )?[\d,]+ bytes\)$", re.MULTILINE)
WORD = re.compile(r"[^\W_]+")
NO_NAMES = frozenset(("a", "i"))
"""Words that every message has and that could be columns."""
ABOUT_TABLES = re.compile(
    r"\b(?:analy[sz]\w*|chart\w*|plot\w*|graph\w*|trend\w*|draw\w*|visuali[sz]\w*|histogram\w*|diagram\w*|statistic\w*"
    r"|csv|tsv|xlsx|excel|spreadsheets?|workbooks?|columns?|data ?sets?|data ?frames?|df|correlat\w*|distribution|export\w*)\b",
    re.IGNORECASE,
)
PERHAPS_ABOUT_TABLES = re.compile(
    r"\b(?:summar\w*|overview|describe|explore|data|tables?|rows?|average|mean|median|total|sum|maximum|minimum|highest"
    r"|lowest|most|least|figures|numbers|files?|download|save)\b",
    re.IGNORECASE,
)
ASKS_FOR_ALL = re.compile(
    r"\b(?:both|all|each|every)\b(?:\s+(?:of|the|these|those|my|our|two|three|four|\d+|attached|uploaded|csv|excel|xlsx|data))*"
    r"\s+(?:files?|tables?|csvs?|spreadsheets?|workbooks?|data ?sets?|attachments?)\b|\bboth of them\b|\ball of them\b",
    re.IGNORECASE,
)
SAME_DATA = re.compile(r"\b(?:df|data ?frame|same data)\b", re.IGNORECASE)
COLUMNS = re.compile(r"Columns: (.+)\.$", re.MULTILINE)
COLUMN = re.compile(r"(.+?) \((?:date|number|text|empty)\)(?:, |$)")
CONVERTS = re.compile(r"\bconvert", re.IGNORECASE)
ASKS_FOR_FILES = re.compile(
    r"\b(?:save|export|download|convert)\w*\b|\b(?:as|in|into|to|create|make|generate|want|give me|send me)\s+"
    r"(?:an?\s+|the\s+)?(?:new\s+)?(?:csv|excel|xlsx|spreadsheet|workbook|file)\b",
    re.IGNORECASE,
)
TARGET = re.compile(r"\b(?:as|in|into|to)\b.*", re.IGNORECASE | re.DOTALL)
KINDS_OF_FILES = {
    ".csv": re.compile(r"\bcsv\b", re.IGNORECASE),
    ".xlsx": re.compile(r"\b(?:xlsx|excel|spreadsheet|workbook)\b", re.IGNORECASE),
}

NO_OUTPUT = "The code printed nothing."
NOTES = "\n\nAbout this call:\n"
SHOWN, WRITTEN = "Shown to the user: ", "Written: "
ERROR = re.compile(
    r"^(?:[A-Za-z_][\w.]*)?(?:Error|Exception|Interrupt|Exit|Iteration|Warning|Group)\b(?::.*)?$"
)
RAISED = re.compile(
    r"Traceback \(most recent call last\)|^(?:[A-Za-z]+)?(?:Syntax|Indentation|Tab)Error:",
    re.MULTILINE,
)
NO_REASONING = "I only report it; I do not reason about it."

LEFT_OUT = (
    "I analyse one table at a time and left the others out: ask for each of them by its name."
)

LISTING = f"""\
import os

for name in sorted(os.listdir("{DATA}")):
    print(name)
"""


@dataclass(frozen=True)
class Table:
    """A file that can be analysed; `attached`: by a user, not made by code."""

    name: str
    attached: bool

    @property
    def path(self) -> str:
        return DATA + self.name


@dataclass(frozen=True)
class Request:
    """A question, and what may be run for it.

    `columns` are names that the model has mentioned before. `first`: nothing was called for the question yet. `alone`: and nothing else could
    answer it. `forced`: something has to be run.
    """

    text: str
    tables: Sequence[Table] = ()
    columns: Sequence[str] = ()
    first: bool = True
    alone: bool = True
    forced: bool = False

    @property
    def words(self) -> list[str]:
        """Its words, each once."""
        found = WORD.findall(unfenced(self.text).lower())
        return list(dict.fromkeys(word for word in found if word not in NO_NAMES))[:MOST_WORDS]


def code_for(request: Request) -> str | None:
    """What to run; None when the question wants nothing of it."""
    if code := fenced_code(request.text):
        return code
    if sums := expressions(request.text) if request.first else ():
        return sums_program(sums)
    table = chosen_table(request)
    if table and (request.forced or concerns(table, request)):
        return analysis_of(table, request).program()
    return LISTING if request.forced else None


def fenced_code(text: str) -> str:
    """The Python between fences; a fence that names no language counts when the message asks to run it, or is nothing else."""
    found = [(language.strip().lower(), code) for _, language, code in FENCE.findall(text)]
    around = unfenced(text)
    plain = not around.strip() or ASKS_TO_RUN.search(around) is not None
    codes = [
        code.rstrip() for language, code in found if language in PYTHON or (plain and not language)
    ]
    return "\n\n".join(filter(None, codes))


def unfenced(text: str) -> str:
    return FENCE.sub(" ", text)


def tables_in(function: Function) -> list[Table]:
    """The tables among the files that the tool lists, in its order."""
    listed = f"{function.description or ''}\n{description_of_code(function.parameters or {})}"
    return [
        Table(name, attached=bool(file_id))
        for name, file_id in FILE.findall(listed)
        if PurePosixPath(name).suffix.lower() in EXTENSIONS
    ]


def description_of_code(parameters: Mapping[str, Any]) -> str:
    return str(parameters.get("properties", {}).get("code", {}).get("description", ""))


def columns_in(texts: Sequence[str]) -> list[str]:
    """The columns that answers of this model have named."""
    return [
        name
        for text in texts
        for columns in COLUMNS.findall(text)
        for name in COLUMN.findall(columns)
    ]


def chosen_table(request: Request) -> Table | None:
    """The one that is named, or the newest, first of those that were attached."""
    named = [table for table in request.tables if is_named(table, request.text)]
    attached = [table for table in request.tables if table.attached]
    newest = named or attached or request.tables
    return newest[-1] if newest else None


def is_named(table: Table, text: str) -> bool:
    name = PurePosixPath(table.name)
    stem = name.stem.replace("_", " ")
    spelled = text.replace("_", " ").lower()
    return name.name.lower() in text.lower() or has_words(spelled, stem.lower())


def has_words(text: str, name: str) -> bool:
    return (
        len(name) >= SHORTEST_NAME
        and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None
    )


def concerns(table: Table, request: Request) -> bool:
    """Whether a question is about tables."""
    text = request.text
    if is_named(table, text) or ABOUT_TABLES.search(text):
        return True
    words = set(request.words)
    columns = [set(WORD.findall(name.lower())) for name in request.columns]
    if any(column and column <= words for column in columns):
        return True
    return request.alone and PERHAPS_ABOUT_TABLES.search(text) is not None


def analysis_of(table: Table, request: Request) -> Analysis:
    unnamed = request.text.replace(PurePosixPath(table.name).name, " ")
    return Analysis(
        table.path,
        words=request.words,
        reuse=SAME_DATA.search(unnamed) is not None and not is_named(table, request.text),
        save=kinds_of_files(unnamed),
        convert=CONVERTS.search(unnamed) is not None,
    )


def kinds_of_files(text: str) -> tuple[str, ...]:
    """The extensions of the files that are asked for, none if none is."""
    asks = ASKS_FOR_FILES.search(text)
    if asks is None:
        return ()
    rest = text[asks.start() :]
    target = TARGET.search(rest)
    for part in (target[0] if target else "", rest):
        if found := tuple(kind for kind, named in KINDS_OF_FILES.items() if named.search(part)):
            return found
    return (".csv",)


def arguments_for(code: str) -> str:
    return orjson.dumps({"code": code}).decode()


# What is said of it


@dataclass(frozen=True)
class Heard:
    """What a call gave: what was printed, and what else there is to know of it."""

    printed: str
    notes: Sequence[str] = field(default_factory=tuple[str, ...])
    links: str = ""

    @classmethod
    def of(cls, text: str) -> "Heard":
        printed, marked, about = text.rpartition(NOTES)
        if not marked:
            printed, about = about, ""
        lines = [line.removeprefix("- ") for line in about.splitlines()]
        links = next((line for line in lines if line.startswith(WRITTEN)), "")
        notes = [line for line in lines if not line.startswith((SHOWN, WRITTEN))]
        return cls(printed.strip("\n"), tuple(notes), links.removeprefix(WRITTEN).removesuffix("."))

    @property
    def error(self) -> str:
        """The last line, if it is that of a traceback."""
        last = self.printed.rstrip().rpartition("\n")[2].strip()
        return last if ERROR.match(last) and RAISED.search(self.printed) else ""

    @property
    def findings(self) -> list[str]:
        """The lines that an analysis begins with."""
        _, found, rest = self.printed.partition(f"{FINDINGS}\n")
        lines = rest.split("\n") if found else []
        end = next((at for at, line in enumerate(lines) if not line.startswith("- ")), len(lines))
        return lines[:end]


def told(question: str, text: str, tables: Sequence[Table] = ()) -> str:
    """What to say to the user after the tool gave this text; `tables` are those there are."""
    heard = Heard.of(text)
    paragraphs = [*said_of_output(question, heard), *heard.notes]
    if heard.findings and asks_for_several(question, tables):
        paragraphs.append(LEFT_OUT)
    if heard.links:
        paragraphs.append(f"Files: {heard.links}")
    return "\n\n".join(paragraphs)


def asks_for_several(question: str, tables: Sequence[Table]) -> bool:
    names = {PurePosixPath(table.name).name.lower() for table in tables}
    named = [name for name in names if has_words(question.lower(), name)]
    several = [table for table in tables if table.attached] or tables
    return len(named) > 1 or (len(several) > 1 and ASKS_FOR_ALL.search(question) is not None)


def said_of_output(question: str, heard: Heard) -> Iterator[str]:
    sums = expressions(question)
    values = heard.printed.splitlines()
    if code := fenced_code(question):
        yield from said_of_code(f"I ran your Python as it stands ({lines_of(code)}).", heard)
    elif heard.findings:
        yield f"I ran my standard analysis of a table with Python. {NO_REASONING} It found:"
        yield "\n".join(heard.findings)
        if heard.error:
            yield f"Then it ended with an error: {heard.error}"
    elif sums and len(sums) == len(values) and not heard.error:
        yield "\n".join(f"{one} = {value}" for one, value in zip(sums, values, strict=True))
        yield "Python calculated this."
    else:
        yield from said_of_code("I ran Python for this.", heard)


def lines_of(code: str) -> str:
    count = code.count("\n") + 1
    return "1 line" if count == 1 else f"{count} lines"


def said_of_code(what: str, heard: Heard) -> Iterator[str]:
    if heard.error:
        yield f"{what} It ended with an error: {heard.error}"
    elif heard.printed == NO_OUTPUT:
        yield f"{what} It printed nothing."
    else:
        yield f"{what} It printed:"
        yield in_fence(heard.printed)


def in_fence(text: str) -> str:
    cut = text if len(text) <= LONGEST_OUTPUT else text[:LONGEST_OUTPUT] + "…"
    longest = max(map(len, re.findall("`+", cut)), default=0)
    fence = "`" * max(longest + 1, 3)
    return f"{fence}\n{cut}\n{fence}"
