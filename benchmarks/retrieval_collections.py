"""Test collections for search, made of the manuals and lists of frequent questions in Debian packages.

People wrote the questions and the answers, and which belong together needs nobody's judgement: a list's answer belongs to
its question, a manual page to its one-line purpose, a section to its title. The question is cut out of what is searched.
"""

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from benchmarks.retrieval_texts import (
    Section,
    debian_sections,
    manual_pages,
    perl_sections,
    postgresql_sections,
    python_sections,
)
from threadloom.retrieval.parsing.chunks import spans
from threadloom.types.vector_stores import StaticChunking

PASSAGES = 2_000
QUESTIONS = 300
# Characters; a shorter text is a pointer to another section and answers nothing.
SHORTEST = 80
# Documents with the same title; of more, the title is one like "Overview" and asks nothing.
CLEAR = 3
CHUNKING = StaticChunking(max_chunk_size_tokens=800, chunk_overlap_tokens=400)


@dataclass(frozen=True)
class Collection:
    """Chunks, the document of each, questions, and the documents that answer each."""

    name: str
    passages: list[str]
    documents: list[int]
    questions: list[str]
    answers: list[frozenset[int]]

    @property
    def key(self) -> str:
        """Changes with the contents."""
        contents = "\0".join([*self.passages, *self.questions])
        return hashlib.sha256(contents.encode()).hexdigest()[:16]


def collections() -> Iterator[Collection]:
    """All of them, the shorter texts first."""
    yield of_questions("perl-faq", perl_sections(), asks_something)
    yield of_questions("python-faq", python_sections(), asks_something)
    yield of_questions("debian-faq", debian_sections(), asks_something)
    yield of_questions("postgresql", postgresql_sections(), has_title)
    yield of_chunks("perl-chunks", perl_sections())
    yield of_questions(
        "manual-en", manual_pages("git-man:.", "manpages:.", "manpages-dev:."), has_title
    )
    yield of_questions("manual-de", manual_pages("manpages-de:de"), has_title)
    yield of_questions("manual-zh", manual_pages("manpages-zh:zh_CN"), has_title)


def asks_something(section: Section) -> bool:
    return section.title.endswith("?")


def has_title(section: Section) -> bool:
    return bool(section.title)


def of_questions(
    name: str, sections: Iterable[Section], asks: Callable[[Section], bool]
) -> Collection:
    """Titles ask, texts answer; sections that ask nothing are there to be mistaken for answers."""
    chance = random.Random(name)
    known = [section for section in sections if len(section.text) >= SHORTEST]
    asking = [section for section in known if asks(section)]
    others = [section for section in known if not asks(section)]
    chance.shuffle(asking)
    chance.shuffle(others)
    passages: list[str] = []
    documents: list[int] = []
    answers: defaultdict[str, set[int]] = defaultdict(set)
    for number, section in enumerate([*asking, *others]):
        chunks = [section.text[span.start : span.end] for span in spans(section.text, CHUNKING)]
        if len(passages) + len(chunks) > PASSAGES:
            break
        passages += chunks
        documents += [number] * len(chunks)
        if asks(section):
            answers[section.title].add(number)
    asked = [title for title, found in answers.items() if len(found) <= CLEAR][:QUESTIONS]
    return Collection(
        name, passages, documents, asked, [frozenset(answers[title]) for title in asked]
    )


def of_chunks(name: str, sections: Iterable[Section]) -> Collection:
    """Answers one after the other in one long document: a chunk holds several, or a part of one.

    A chunk answers when at least half of it, or at least half of the answer, is the answer.
    """
    asking = [each for each in sections if asks_something(each) and len(each.text) >= SHORTEST]
    text = ""
    places: list[tuple[str, int, int]] = []
    for section in asking:
        places.append((section.title, len(text), len(text) + len(section.text)))
        text += section.text + "\n\n"
    found = [*spans(text, CHUNKING)]
    answers = [
        frozenset(
            number
            for number, span in enumerate(found)
            if 2 * (min(end, span.end) - max(start, span.start))
            >= min(end - start, span.end - span.start)
        )
        for _, start, end in places
    ]
    kept = [place for place in range(len(places)) if answers[place]][:QUESTIONS]
    return Collection(
        name,
        [text[span.start : span.end] for span in found],
        [*range(len(found))],
        [places[place][0] for place in kept],
        [answers[place] for place in kept],
    )
