"""The code in a call's arguments, read while the model writes them.

They should be `{"code": "…"}`. Models also send bare Python, put a fence around either, quote what is quoted already, take
another key, forget to escape, or stop early. What was passed on is never taken back: as long as the form can be one or
the other, the text waits.
"""

from collections.abc import Callable, Generator
from contextlib import suppress
from functools import lru_cache
from json import JSONDecoder
from string import hexdigits
from typing import TypeVar, cast

from threadloom.types.shared import JsonObject

R = TypeVar("R")
Steps = Generator[str, str, R]
"""Gives what can be passed on, and is sent the next character; nothing once the text has ended."""

KEY = "code"
FENCE = "```"
QUOTES = frozenset("\"'")
HEX = frozenset(hexdigits)
LINE_ENDS = ("\n", "")
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"} | {c: c for c in "\"'\\/"}
LENIENT = JSONDecoder(strict=False)
STRICT = JSONDecoder(object_pairs_hook=tuple)
RECENT = 16
"""Calls whose code is remembered: it is asked for several times while a call is made."""
CODE_UNIT = 4
"""Hexadecimal digits after `\\\\u`."""
REPLACEMENT = "\ufffd"


class CodeReader:
    """Shows the code of one call as its arguments arrive."""

    def __init__(self) -> None:
        self._stages = [Stage(unfenced), Stage(code_within), Stage(unfenced)]
        self._high = ""

    def feed(self, arguments: str) -> JsonObject | None:
        """What a stream adds to the call's input."""
        for stage in self._stages:
            arguments = stage.feed(arguments)
        return more_input(self._paired(arguments))

    def finish(self) -> JsonObject | None:
        """What was held back."""
        rest = ""
        for stage in self._stages:
            rest = stage.feed(rest) + stage.finish()
        return more_input(self._paired(rest) + REPLACEMENT * len(self._high))

    def _paired(self, code: str) -> str:
        """Both halves of a character beyond 16 bits are escaped apart; half of one is none."""
        code = self._high + code
        self._high = code[-1:] if "\ud800" <= code[-1:] <= "\udbff" else ""
        return with_whole_characters(code.removesuffix(self._high))


def with_whole_characters(code: str) -> str:
    """Halves that belong together are one character; half of one is none."""
    return code.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def more_input(code: str) -> JsonObject | None:
    return {"type": "code_interpreter", "code_interpreter": {"input": code}} if code else None


@lru_cache(RECENT)
def code_of(arguments: str) -> str:
    """The code in these arguments: what a `CodeReader` shows of them in all, however they are cut."""
    code = code_as_agreed(arguments)
    return code_as_read(arguments) if code is None else code


def code_as_agreed(arguments: str) -> str | None:
    """The same at once, if they are written as they should be."""
    if not arguments.lstrip().startswith("{"):
        return None
    try:
        entries = cast("tuple[tuple[str, object], ...]", STRICT.decode(arguments))
    except (ValueError, RecursionError):
        return None
    match entries:
        case ((key, str(code)),) if key == KEY and not code.lstrip().startswith(FENCE):
            return with_whole_characters(code)
        case _:
            return None


def code_as_read(arguments: str) -> str:
    reader = CodeReader()
    shown = (reader.feed(arguments), reader.finish())
    return "".join(delta["code_interpreter"]["input"] for delta in shown if delta)


# Reading character by character


class Text:
    """What a stage reads, and what it passes on."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._unread: list[str] = []
        self._passed: list[str] = []

    def next(self) -> Steps[str]:
        """The next character; nothing at the end."""
        if self._unread:
            return self._unread.pop()
        passed, self._passed = self._passed, []
        character = yield "".join(passed)
        self.seen.append(character)
        return character

    def unread(self, characters: str) -> None:
        """Let these come once more."""
        self._unread.extend(reversed(characters))

    def pass_on(self, text: str) -> None:
        self._passed.append(text)

    def pass_rest(self) -> Steps[None]:
        while character := (yield from self.next()):
            self.pass_on(character)

    def run_of(self, belongs: Callable[[str], bool]) -> Steps[str]:
        """The next characters of this kind."""
        run: list[str] = []
        while belongs(character := (yield from self.next())):
            run.append(character)
        self.unread(character)
        return "".join(run)

    def after_blanks(self) -> Steps[str]:
        """The next character that is no space."""
        yield from self.run_of(str.isspace)
        return (yield from self.next())


class Stage:
    """Turns one text into another as it comes."""

    def __init__(self, read: Callable[[Text], Steps[None]]) -> None:
        self._steps = to_the_end(read)
        next(self._steps)

    def feed(self, text: str) -> str:
        return "".join([self._steps.send(character) for character in text])

    def finish(self) -> str:
        passed: list[str] = []
        with suppress(StopIteration):
            while True:
                passed.append(self._steps.send(""))
        return "".join(passed)


def to_the_end(read: Callable[[Text], Steps[None]]) -> Steps[None]:
    """What a stage leaves unread is dropped."""
    text = Text()
    yield from read(text)
    while (yield from text.next()):
        pass


# Fences


def unfenced(text: Text) -> Steps[None]:
    """What the fence holds, if the text begins with one, and else all of it."""
    blank = yield from text.run_of(str.isspace)
    ticks = yield from text.run_of(is_tick)
    if len(ticks) < len(FENCE):
        text.pass_on(blank + ticks)
        yield from text.pass_rest()
        return
    line = yield from text.run_of(is_in_line)
    if line.endswith(FENCE):
        text.pass_on(line.removesuffix(FENCE))
    elif (yield from text.next()):
        yield from pass_fenced(text)


def pass_fenced(text: Text) -> Steps[None]:
    """The lines up to the closing fence, without its own line end."""
    line_end = ""
    while True:
        ticks = yield from text.run_of(is_tick)
        if len(ticks) >= len(FENCE):
            return
        text.pass_on(line_end + ticks)
        while (character := (yield from text.next())) not in LINE_ENDS:
            text.pass_on(character)
        if not character:
            return
        line_end = character


def is_tick(character: str) -> bool:
    return character == "`"


def is_in_line(character: str) -> bool:
    return character not in LINE_ENDS


# Forms


def code_within(text: Text) -> Steps[None]:
    """The code in an object or a quoted text; what is neither is the code itself."""
    first = yield from text.after_blanks()
    if first == "{" and (quote := (yield from quote_of_code(text))):
        yield from pass_quoted(text, quote)
    elif first in ("{", '"'):
        yield from text.run_of(bool)
        text.pass_on(read_whole("".join(text.seen)))
    else:
        text.pass_on("".join(text.seen))
        yield from text.pass_rest()


def quote_of_code(text: Text) -> Steps[str]:
    """Reads an object up to its code, and gives the quote that will end it; nothing where other than texts comes first."""
    while True:
        key = yield from quoted(text, (yield from text.after_blanks()))
        colon = yield from text.after_blanks()
        quote = yield from text.after_blanks()
        if colon != ":" or quote not in QUOTES:
            return ""
        if key == KEY:
            return quote
        yield from quoted(text, quote)
        if (yield from text.after_blanks()) != ",":
            return ""


def quoted(text: Text, quote: str) -> Steps[str]:
    """Up to the closing quote, as it is written."""
    inside: list[str] = []
    while quote in QUOTES and (character := (yield from text.next())) not in ("", quote):
        inside.append(character)
        if character == "\\":
            inside.append((yield from text.next()))
    return "".join(inside)


def pass_quoted(text: Text, quote: str) -> Steps[None]:
    """A text up to its closing quote: one that it was forgotten to escape is part of it."""
    all_escaped = True
    while character := (yield from text.next()):
        if character == "\\":
            text.pass_on((yield from escaped(text)))
        elif character != quote:
            text.pass_on(character)
        elif (yield from ends_here(text, all_escaped=all_escaped)):
            return
        else:
            all_escaped = False
            text.pass_on(quote)


def ends_here(text: Text, *, all_escaped: bool) -> Steps[bool]:
    """Whether a quote closes the text: what follows it tells. Where escapes are forgotten only the last one does."""

    def may_follow(character: str) -> bool:
        return character.isspace() or (character == "}" and not all_escaped)

    ahead = yield from text.run_of(may_follow)
    following = yield from text.next()
    text.unread(ahead + following)
    return not following or (all_escaped and following in "},")


def escaped(text: Text) -> Steps[str]:
    """What a backslash and the characters after it stand for; what JSON does not know stays as it is, for Python."""
    character = yield from text.next()
    if character != "u":
        return ESCAPES.get(character, "\\" + character)
    digits = ""
    while len(digits) < CODE_UNIT:
        digit = yield from text.next()
        if digit not in HEX:
            text.unread(digit)
            return "\\u" + digits
        digits += digit
    return chr(int(digits, 16))


def read_whole(arguments: str) -> str:
    """The code in JSON of any shape; what is no JSON is code."""
    written = arguments.strip()
    try:
        value, end = LENIENT.raw_decode(written)
        if not isinstance(value, str):
            return text_in(value)
        return code_of(value) if end == len(written) else arguments
    except (ValueError, RecursionError):
        return arguments


def text_in(value: object) -> str:
    """The text under the right key, else the longest; lines in a list are one text."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(map(text_in, cast("list[object]", value)))
    if not isinstance(value, dict):
        return ""
    entries = cast("JsonObject", value)
    if KEY in entries:
        return text_in(entries[KEY])
    return max(map(text_in, entries.values()), key=len, default="")
