"""What extraction gives and chunking takes."""

from dataclasses import dataclass

from threadloom.retrieval.parsing import UnreadableFile

MAX_TEXT = 50_000_000
JOINT = "\n\n"
ENCRYPTED = "it is encrypted. Remove the password and upload it again."
DAMAGED = "it is damaged. Save it again and upload the result."


@dataclass(frozen=True)
class Heading:
    """A title and where in its section's text it stands."""

    at: int
    title: str


@dataclass(frozen=True)
class Section:
    """A page, a slide or a whole document without pages; a chunk never goes over its end.

    A document's text is that of its sections, joined by `JOINT`. `reach` is how far through the document its end is.
    """

    text: str
    page: int | None = None
    headings: tuple[Heading, ...] = ()
    reach: float = 1.0


def invalid(reason: str) -> UnreadableFile:
    """The document is at fault; `reason` goes on after "because"."""
    return UnreadableFile("invalid_file", f"The file could not be parsed because {reason}")


def unsupported(reason: str) -> UnreadableFile:
    """The document is of a kind that is not read; `reason` goes on after "because"."""
    return UnreadableFile("unsupported_file", f"The file could not be parsed because {reason}")


def empty() -> UnreadableFile:
    return invalid("it is empty.")


def too_long() -> UnreadableFile:
    return invalid(
        f"it holds more than {MAX_TEXT // 1_000_000} million characters of text. Split it into smaller files."
    )
