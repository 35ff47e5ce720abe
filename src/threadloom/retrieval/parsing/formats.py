"""Which documents can be read, by the extension of their names."""

from pathlib import PurePosixPath
from typing import Literal

Format = Literal["text", "markdown", "tex", "html", "pdf", "docx", "pptx", "doc", "csv", "xlsx"]

CODE = ["c", "cpp", "cs", "css", "go", "java", "js", "json", "php", "py", "rb", "sh", "ts"]
FORMATS: dict[str, Format] = {
    **{f".{name}": "text" for name in ("txt", *CODE)},
    ".md": "markdown",
    ".tex": "tex",
    ".html": "html",
    ".pdf": "pdf",
    ".docx": "docx",
    ".pptx": "pptx",
    ".doc": "doc",  # taken, as OpenAI did, and then failed with advice: no sound library reads it
}
TABLES: dict[str, Format] = {".csv": "csv", ".xlsx": "xlsx"}


def extension(filename: str) -> str:
    """`.pdf` for `Report.PDF`; empty when there is none."""
    return PurePosixPath(filename.replace("\\", "/")).suffix.lower()


def supported(filename: str, *, tables: bool) -> bool:
    """Whether a file of this name may be put into a vector store."""
    return format_of(filename, tables=tables) is not None


def format_of(filename: str, *, tables: bool) -> Format | None:
    """What a file of this name should hold."""
    known = FORMATS | TABLES if tables else FORMATS
    return known.get(extension(filename))
