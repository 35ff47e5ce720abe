"""The texts of Debian packages as sections: manuals, lists of frequent questions, pages."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (lxml carries no types)

import gzip
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lxml import html

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "retrieval"
ESCAPES = {
    r"\-": "-",
    r"\e": "\\",
    r"\ ": " ",
    r"\~": " ",
    r"\0": " ",
    r"\&": "",
    r"\,": "",
    r"\/": "",
    r"\|": "",
    r"\^": "",
    r"\:": "",
}


@dataclass(frozen=True)
class Section:
    title: str
    text: str


def package(name: str) -> Path:
    """The files of a Debian package, which is downloaded once and not installed."""
    folder = CACHE / "packages" / name
    if not folder.exists():
        scratch = folder.parent
        scratch.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["apt-get", "download", "-qq", name], cwd=scratch, check=True, stderr=subprocess.DEVNULL
        )
        archive = next(scratch.glob(f"{name}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
    return folder


def perl_sections() -> Iterator[Section]:
    for path in sorted((package("perl-doc") / "usr/share/perl").glob("*/pod/perl*.pod")):
        if re.search(r"perl\d+delta|perltoc|perldelta", path.name):
            continue
        text = path.read_text("utf-8", "replace")
        pieces = re.split(r"^=(?:head[1-4]|item) +(.+)$", text, flags=re.MULTILINE)
        for title, body in zip(pieces[1::2], pieces[2::2], strict=True):
            yield Section(pod_text(title), pod_text(body))


def pod_text(text: str) -> str:
    text = re.sub(r"^=\w+.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"L<(?:([^|>]*)\|)?([^>]*)>", lambda match: match[1] or match[2], text)
    for _ in range(2):
        text = re.sub(r"\b[A-Z]<<* ?([^<>]*?) ?>+", r"\1", text)
    return text.strip()


def python_sections() -> Iterator[Section]:
    sources = package("python3.11-doc") / "usr/share/doc/python3.11/html/_sources"
    for folder in ("faq", "tutorial", "howto", "reference", "using", "extending", "library"):
        for path in sorted((sources / folder).glob("*.rst.txt")):
            text = path.read_text("utf-8")
            pieces = re.split(r"^(\S.*)\n(?:[=\-~^*\"'.#]){3,}$", text, flags=re.MULTILINE)
            for title, body in zip(pieces[1::2], pieces[2::2], strict=True):
                yield Section(rst_text(title), rst_text(body))


def rst_text(text: str) -> str:
    text = re.sub(r"^\.\. .*$", "", text, flags=re.MULTILINE)
    text = re.sub(r":[\w:+-]+:`[~!]?([^`<]*?)(?: ?<[^`>]*>)?`", r"\1", text)
    return re.sub(r"``?([^`]*)``?_*", r"\1", text).strip()


def debian_sections() -> Iterator[Section]:
    """Frequent questions about Debian, zsh and SQLite among the sections of Debian's books."""
    for name, pattern in (
        ("debian-faq", "*.en.html"),
        ("zsh-doc", "FAQ0*.html"),
        ("sqlite3-doc", "faq.html"),
        ("developers-reference", "*.html"),
        ("debian-policy", "*.html"),
        ("debian-reference-en", "ch*.html"),
    ):
        for path in sorted(package(name).rglob(pattern)):
            if path.is_file():
                yield from html_sections(path)


def postgresql_sections() -> Iterator[Section]:
    for path in sorted(package("postgresql-doc-15").rglob("*.html")):
        yield from html_sections(path)


def html_sections(path: Path) -> Iterator[Section]:
    """What stands below each heading, up to the next one."""
    page = html.fromstring(path.read_bytes())
    for element in page.xpath("//script|//style|//head|//*[@class='toc']|//*[@class='navheader']"):
        element.drop_tree()
    for heading in page.xpath("//h1|//h2|//h3|//h4"):
        title = heading.text_content()
        for child in [*heading]:
            heading.remove(child)
        heading.text = f"\n\n\ue000{title}\ue001"
    pieces = re.split(r"\ue000([^\ue001]*)\ue001", page.text_content())
    for title, body in zip(pieces[1::2], pieces[2::2], strict=True):
        yield Section(unnumbered(title), squeezed(body))


def unnumbered(title: str) -> str:
    r"""`5.2.\xa0How do I …?¶` without its number and mark."""
    return re.sub(r"^(Chapter )?[\dA-Z]{1,2}(\.\d+)*[.:]\s+|[¶#]", "", squeezed(title)).strip()


def squeezed(text: str) -> str:
    text = re.sub(r"[ \t\xa0]+", " ", text)
    return re.sub(r"\s*\n\s*\n\s*", "\n\n", text).strip()


def manual_pages(*places: str) -> Iterator[Section]:
    """Pages by their purpose, the rest of the line that names them; each place is a package and a folder of manuals."""
    for place in places:
        name, folder = place.split(":")
        for path in sorted((package(name) / "usr/share/man" / folder).glob("man*/*.gz")):
            yield manual_page(gzip.decompress(path.read_bytes()).decode("utf-8", "replace"))


def manual_page(source: str) -> Section:
    before, *sections = re.split(r"^\.S[Hh] *", source, flags=re.MULTILINE)
    if len(sections) < 2:
        return Section("", before)
    name = roff_text(sections[0].partition("\n")[2])
    purpose = re.split(r"\s(?:--?|\u2014|\u2013)\s", name, maxsplit=1)[1:] or [""]
    return Section(" ".join(purpose[0].split()), roff_text("\n".join(sections[1:])))


def roff_text(source: str) -> str:
    """What a reader sees of it, roughly: macros, fonts and comments are left out."""
    text = re.sub(r"^\.\\\".*\n|\\\".*$", "", source, flags=re.MULTILINE)
    text = re.sub(r"^\.Nd +", "- ", text, flags=re.MULTILINE)
    text = re.sub(r"^[.'] *\S+ *", "", text, flags=re.MULTILINE)
    text = re.sub(r"\\f(\[\w*\]|\(..|.)|\\s[+-]?\d+|\\[*(]\(?..|\\\[\w+\]", "", text)
    text = re.sub(r"\\[-e ~0&,/|^:]", lambda match: ESCAPES[match[0]], text)
    return squeezed(text.replace('"', ""))
