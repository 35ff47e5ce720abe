"""Sums in a message, as Python: what the embedded model has calculated instead of guessing it.

A message is full of numbers that are no sums: dates, ranges, scores. Hyphens, slashes and an `x` between numbers therefore count
only where the message asks for a value.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LONGEST = 300
LONGEST_MESSAGE = 10_000
MOST_SUMS = 20
BEFORE = 60
"""Characters before a sum in which a message may ask for it."""
FUNCTIONS = frozenset(
    "sqrt cbrt exp log log2 log10 sin cos tan asin acos atan radians degrees floor ceil factorial gcd comb hypot".split()  # noqa: SIM905 - reads as words
)
BUILT_IN = frozenset(("abs", "round", "min", "max", "pow"))
CONSTANTS = frozenset(("pi", "tau"))
NUMBER = r"\d+(?:\.\d+)?"
PERCENT = rf"(?<![\d.])({NUMBER})\s*(?:%|percent|per cent)\s+of\s+"

THOUSANDS = re.compile(r"(?<![a-z]\()\b\d{1,3}(?:,\d{3})+\b(?!,\d)")
SPELLINGS: tuple[tuple[str, str], ...] = (
    ("[\u00d7\u00b7]", "*"),
    ("\u00f7", "/"),
    ("[\u2212\u2013]", "-"),
    (r"\^", "**"),
    (r"(?<=[\d)]) +squared\b", " ** 2"),
    (r"(?<=[\d)]) +cubed\b", " ** 3"),
    (r"(?<=[\d)]) +plus +(?=[\d(-])", " + "),
    (r"(?<=[\d)]) +minus +(?=[\d(-])", " - "),
    (r"(?<=[\d)]) +(?:times|multiplied by) +(?=[\d(-])", " * "),
    (r"(?<=[\d)]) +divided by +(?=[\d(-])", " / "),
    (r"(?<=[\d)]) +mod(?:ulo)? +(?=[\d(-])", " % "),
    (r"(?<=[\d)]) +(?:raised )?to the power (?:of )?(?=[\d(-])", " ** "),
    (rf"\bsquare root of ({NUMBER})", r"sqrt(\1)"),
    (rf"\bfactorial of ({NUMBER})", r"factorial(\1)"),
    (rf"{PERCENT}({NUMBER})", r"\1 * \2 / 100"),
    (rf"{PERCENT}(?=\()", r"\1 / 100 * "),
)
TIMES = re.compile(r"(?<=\d)\s*x\s*(?=\d)")
NAMES = "|".join(sorted(FUNCTIONS | BUILT_IN | CONSTANTS, key=len, reverse=True))
SPAN = re.compile(rf"(?:(?<![\w.])(?:{NUMBER}|(?:{NAMES}))(?!\w)|\*\*|//|[-+*/%(),]|\s+)+")
DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}|\d{1,2}[/-]\d{1,2}[/-]\d{2,4}|\d{3,}-\d{3,}")
ASKS = re.compile(
    r"\b(?:what(?:['\u2019]?s| is| are)|how much is|calculate|compute|evaluate|solve|work out|(?:result|value|sum) of|=)"
    r"[\s:]*(?:the (?:result|value|sum) of\s*)?$"
)
WORDS = re.compile(r"[^\W\d_]+")
CERTAIN = (ast.Add, ast.Mult, ast.Pow, ast.FloorDiv, ast.Mod, ast.Call)
ALLOWED = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.Call, ast.Name, ast.Load, ast.Constant),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.USub, ast.UAdd),
)


def expressions(text: str) -> tuple[str, ...]:
    """The sums that a message asks for, in Python's notation, each once."""
    spelled = THOUSANDS.sub(without_commas, text[:LONGEST_MESSAGE].lower())
    for pattern, notation in SPELLINGS:
        spelled = re.sub(pattern, notation, spelled)
    asked = [one.text for one in sums(TIMES.sub(" * ", spelled)) if one.asked]
    certain = [one.text for one in sums(spelled) if one.certain]
    return tuple(dict.fromkeys([*asked, *certain]))[:MOST_SUMS]


def without_commas(number: re.Match[str]) -> str:
    return number[0].replace(",", "")


@dataclass(frozen=True)
class Sum:
    """`asked`: the words before it ask for its value. `certain`: nobody would write it who does not mean a sum."""

    text: str
    asked: bool
    certain: bool


def sums(text: str) -> Iterator[Sum]:
    bare = not WORDS.search(re.sub(NAMES, "", text))
    for span in SPAN.finditer(text):
        found = trimmed(span[0])
        tree = parsed(found)
        if tree is not None:
            start = span.start()
            asked = bare or ASKS.search(text[max(0, start - BEFORE) : start].rstrip()) is not None
            yield Sum(found, asked and not DATE.fullmatch(found), is_certain(tree))


def trimmed(span: str) -> str:
    """Without the dash, comma or bracket of the sentence around it."""
    found = span.strip().rstrip("-+*/(, ").lstrip(")*/%, ")
    if found.count("(") > found.count(")"):
        found = found.removeprefix("(")
    return found.removesuffix(")") if found.count(")") > found.count("(") else found


def parsed(text: str) -> ast.Expression | None:
    """The sum as a tree if it is one, of numbers and known functions with something to calculate."""
    if len(text) > LONGEST:
        return None
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError):
        return None
    nodes = list(ast.walk(tree))
    if not all(isinstance(node, ALLOWED) for node in nodes):
        return None
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    names = [node for node in nodes if isinstance(node, ast.Name)]
    if any((name.id in CONSTANTS) == (id(name) in called) for name in names):
        return None
    return tree if any(isinstance(node, ast.BinOp | ast.Call) for node in nodes) else None


def is_certain(tree: ast.Expression) -> bool:
    return any(isinstance(node, CERTAIN) for node in ast.walk(tree))


def program(asked: Sequence[str]) -> str:
    """Python that prints the value of each expression, a line each."""
    names = {name for one in asked for name in re.findall(r"[a-z]\w*", one)}
    imports = ", ".join(sorted(names - BUILT_IN))
    lines = [f"from math import {imports}", ""] if imports else []
    return "\n".join([*lines, *(f"print({one})" for one in asked)])
