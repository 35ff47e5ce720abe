"""Citations in an answer: what a model writes between brackets becomes a marker with its annotation, or goes.

Text outside brackets is passed on at once. From an opening bracket on it is held back for as long as it can still become
a marker. How an answer is cut into pieces changes nothing: what is decided rests on the text alone.

In code only a dagger makes a marker: `x[0:1]`, and `[0:1]` between backticks, are slices.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from sqlalchemy import bindparam, select

from threadloom.db.rows import RunStepRow
from threadloom.db.tx import Tx
from threadloom.types.citations import (
    CLOSERS,
    INSIDE,
    LENTICULAR,
    OPENERS,
    Citation,
    counts_unclosed,
    is_marker,
    label_of,
    marker_of,
    may_begin_citation,
    read_citations,
)
from threadloom.types.run_steps import FileSearchToolCall, ToolCallsDetails
from threadloom.types.shared import JsonObject

OPENER = re.compile(f"[{re.escape(OPENERS)}]")
FENCE = re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE)
BACKTICKS = re.compile("`+")
ANY_LABEL = frozenset({"", "source"})
STEPS = (
    select(RunStepRow)
    .where(RunStepRow.run_id == bindparam("of_run"), RunStepRow.type == "tool_calls")
    .order_by(RunStepRow.seq)
)


@dataclass(frozen=True)
class Source:
    """A passage that an answer may cite: number `index` of the run's search number `call`."""

    call: int
    index: int
    file_id: str
    label: str
    text: str
    page: int | None = None

    @property
    def marker(self) -> str:
        return marker_of(self.call, self.index, self.label)

    def annotation(self, start: int) -> JsonObject:
        """The annotation of its marker, which begins at this character of the text. `page` is ours, where one is known."""
        page: JsonObject = {} if self.page is None else {"page": self.page}
        return {
            "type": "file_citation",
            "text": self.marker,
            "start_index": start,
            "end_index": start + len(self.marker),
            "file_citation": {"file_id": self.file_id} | page,
        }


class Mark(Protocol):
    """What a stretch of an answer stands for: the passage that it cites, or the file that it links."""

    def annotation(self, start: int) -> JsonObject:
        """The annotation of the stretch, which begins at this character of the text."""
        ...


@dataclass(frozen=True)
class Piece:
    """Text of an answer; one that stands for something comes with its source."""

    text: str
    source: Mark | None = None


def searches_of(tx: Tx, run_id: str) -> Iterator[FileSearchToolCall]:
    """The run's searches in their order: the place of each is its number."""
    for step in tx.session.scalars(STEPS, {"of_run": run_id}):
        assert isinstance(step.step_details, ToolCallsDetails)
        shown = {call.id: call for call in step.step_details.tool_calls}
        for call in step.calls:
            if isinstance(search := shown[call.id], FileSearchToolCall):
                yield search


def sources_of(tx: Tx, run_id: str) -> list[Source]:
    """What the run's searches have found, from its journal."""
    return [
        Source(
            call=number,
            index=index,
            file_id=result["file_id"],
            label=label_of(result["file_name"]),
            text="\n".join(part["text"] for part in result["content"]),
            page=result.get("page"),
        )
        for number, search in enumerate(searches_of(tx, run_id))
        for index, result in enumerate(search.file_search.results)
    ]


class Sources:
    """Finds what a citation means, however its marker was mangled."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._by_place = {(source.call, source.index): source for source in sources}
        self._by_label: dict[str, list[Source]] = {}
        for source in sources:
            self._by_label.setdefault(source.label.casefold(), []).append(source)

    def meant_by(self, citation: Citation) -> Source | None:
        """The one source that the citation can mean; its numbers count more than its label."""
        if citation.index is None or citation.call is None:
            return self._labelled(citation) or self._numbered(citation)
        exact = self._by_place.get((citation.call, citation.index))
        if exact is None:
            return self._labelled(citation)
        # Without a dagger a label must be right: `12:30 noon` names nothing.
        known = citation.has_dagger or citation.label.casefold() in {
            *ANY_LABEL,
            exact.label.casefold(),
        }
        return exact if known else None

    def _labelled(self, citation: Citation) -> Source | None:
        """A passage of the one file of that name: the one with the right number if there is one, or the best."""
        named = self._by_label.get(citation.label.casefold(), [])
        numbered = [source for source in named if source.index == citation.index]
        if len(numbered) == 1:
            return numbered[0]
        return named[0] if len({source.file_id for source in named}) == 1 else None

    def _numbered(self, citation: Citation) -> Source | None:
        """One number alone is enough when there was one search."""
        calls = {call for call, _ in self._by_place}
        if len(calls) != 1 or citation.index is None or citation.label.casefold() not in ANY_LABEL:
            return None
        return self._by_place.get((calls.pop(), citation.index))


class AnswerReader(Protocol):
    """Looks after what an answer cites or links while it arrives; the pieces it gives are what is sent."""

    def feed(self, text: str) -> list[Piece]: ...
    def finish(self) -> list[Piece]: ...


class Citer:
    """Reads an answer as it arrives and hands it on with its markers made whole."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._passed: list[str] = []
        self._held = ""

    def feed(self, text: str) -> list[Piece]:
        """What can be passed on after this much more text."""
        self._held += text
        return joined(self._read(whole=False))

    def finish(self) -> list[Piece]:
        """The rest; a marker that was cut short counts."""
        return joined(self._read(whole=True))

    def _read(self, *, whole: bool) -> Iterator[Piece]:
        while opener := OPENER.search(self._held):
            yield from self._pass(opener.start())
            inside = self._held[1 : end_of_inside(self._held)]
            after = self._held[len(inside) + 1 :][:1]
            if not after and not whole and may_begin_citation(inside):
                return
            cut_short = whole and counts_unclosed(self._held[0], inside)
            closed = after in CLOSERS if after else cut_short
            meant = self._meant_by(inside) if closed else None
            if meant is None:
                yield from self._pass(1)
            else:
                self._held = self._held[len(inside) + 2 :]
                self._passed.append(" ")
                yield from (Piece(source.marker, source) for source in meant)
        yield from self._pass(len(self._held))

    def _pass(self, length: int) -> Iterator[Piece]:
        if length:
            text, self._held = self._held[:length], self._held[length:]
            self._passed.append(text)
            yield Piece(text)

    def _meant_by(self, inside: str) -> list[Source] | None:
        """The sources that are named between the brackets; None when it is no marker at all."""
        opener = self._held[0]
        citations = read_citations(inside)
        before = self._passed[-1][-1:] if self._passed else ""
        if citations is None or not is_marker(opener, citations, before=before):
            return None
        found = [source for one in citations if (source := self._sources.meant_by(one))]
        if any(one.has_dagger and one.index is not None for one in citations):
            return found
        in_code = opener != LENTICULAR and is_code("".join(self._passed))
        return found if len(found) == len(citations) and not in_code else None


def end_of_inside(held: str) -> int:
    inside = INSIDE.match(held, 1)
    assert inside is not None, "it may be empty"
    return inside.end()


def is_code(before: str) -> bool:
    """Whether what follows this text stands in a fence or between backticks."""
    line = before[before.rfind("\n") + 1 :]
    return len(FENCE.findall(before)) % 2 == 1 or len(BACKTICKS.findall(line)) % 2 == 1


def joined(pieces: Iterable[Piece]) -> list[Piece]:
    """Neighbouring text in one piece; a marker is always a piece of its own."""
    result: list[Piece] = []
    for is_text, group in groupby(pieces, key=lambda piece: piece.source is None):
        if not is_text:
            result.extend(group)
        elif text := "".join(piece.text for piece in group):
            result.append(Piece(text))
    return result
