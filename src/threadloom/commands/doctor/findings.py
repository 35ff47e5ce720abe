"""What a check of `threadloom doctor` finds."""

import sys
from dataclasses import dataclass
from typing import Literal

Colour = Literal["green", "yellow", "red"]
COMPOSED = sys.prefix == "/opt/threadloom"
"""Whether this is the image's program, which docs/compose.md tells how to start."""


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, and how to mend it. Green needs no mending."""

    check: str
    colour: Colour
    says: str
    mend: str | None = None


def green(check: str, says: str) -> Finding:
    return Finding(check, "green", says)


def yellow(check: str, says: str, mend: str) -> Finding:
    return Finding(check, "yellow", says, mend)


def red(check: str, says: str, mend: str) -> Finding:
    return Finding(check, "red", says, mend)


def fitting(plain: str, composed: str) -> str:
    """A mend line, or the one for containers: there, nothing can be started or built beside what runs."""
    return composed if COMPOSED else plain
