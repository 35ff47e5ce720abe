"""XML and HTML as lxml reads them: no network, no entities, limited depth. The only module that knows lxml."""

from collections.abc import Collection, Iterator, Mapping
from typing import IO, Any, Literal, Protocol, cast

from lxml import etree as _etree  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]

from threadloom.retrieval.parsing.sections import invalid

Event = Literal["start", "end"]
etree = cast(Any, _etree)  # a library in C that comes without types
TOO_DEEP = "its markup is nested too deeply, or one of its texts is too long."


class Element(Protocol):
    """What is used of an element."""

    text: str | None
    tail: str | None
    attrib: Mapping[str, str]

    @property
    def tag(self) -> str: ...
    def clear(self) -> None: ...
    def getparent(self) -> "Element | None": ...
    def getprevious(self) -> "Element | None": ...
    def __delitem__(self, index: int) -> None: ...


class Walker(Protocol):
    """Goes through a tree, begin and end of each element; the one that begins can be passed over."""

    def __iter__(self) -> Iterator[tuple[Event, Element]]: ...
    def skip_subtree(self) -> None: ...


def walk_xml(file: IO[bytes], tags: Collection[str]) -> Iterator[tuple[Event, str, Element]]:
    """The elements with these local names, as they are read; whoever is done with one frees it (`forget`)."""
    walker = etree.iterparse(
        file,
        events=("start", "end"),
        tag=[f"{{*}}{tag}" for tag in tags],
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    first = True
    for event, element in walker:
        if first and element.getroottree().docinfo.internalDTD is not None:
            raise invalid("its XML declares entities, which no office program writes.")
        first = False
        yield event, local(element.tag), element


def walk_html(text: str) -> Walker:
    parser = etree.HTMLParser(
        encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True, huge_tree=False
    )
    root = etree.fromstring(text.encode(errors="replace"), parser)
    # libxml2 drops what comes after such an error: better to say so than to lose it.
    if any(error.level == etree.ErrorLevels.FATAL for error in parser.error_log):
        raise invalid(TOO_DEEP)
    return cast(Walker, etree.iterwalk(root, events=("start", "end")))


def local(name: str) -> str:
    """Without its namespace: the forms of the office standard differ in nothing else."""
    return name.rpartition("}")[2]


def attribute(element: Element, name: str) -> str | None:
    """The value of an attribute, by its local name."""
    return next((value for key, value in element.attrib.items() if local(key) == name), None)


def forget(element: Element) -> None:
    """Frees an element that has been read, and those before it: a document can be larger than memory."""
    element.clear()
    parent = element.getparent()
    while parent is not None and element.getprevious() is not None:
        del parent[0]
