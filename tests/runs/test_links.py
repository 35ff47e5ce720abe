"""Links that models write to files of the sandbox, and what becomes of them."""

from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from threadloom.runs.citations import Citer, Piece, Source, Sources
from threadloom.runs.links import PREFIX, Link, LinkedFile, Linker
from threadloom.runs.parts import PartDraft

NAMES = ["out.csv", "out.csv.gz", "my file (1).csv", "数据.csv", "100%.csv", "a/b.txt", "report"]
FILES = [LinkedFile(name, f"file-{number}") for number, name in enumerate(NAMES)]
SOURCE = Source(0, 0, "file-a", "a.txt", "")


def read(*texts: str, files: list[LinkedFile] = FILES, cites: bool = False) -> list[Piece]:
    """The pieces of an answer that came in these texts, neighbouring text joined."""
    linker = Linker(files, Citer(Sources([SOURCE])) if cites else None)
    result: list[Piece] = []
    for piece in [*(piece for text in texts for piece in linker.feed(text)), *linker.finish()]:
        if piece.source is None and result and result[-1].source is None:
            result[-1] = Piece(result[-1].text + piece.text)
        else:
            result.append(piece)
    return result


def linked(text: str) -> list[tuple[str, str]]:
    """The links of an answer: how they are written, and the names of their files."""
    return [
        (piece.text.removeprefix(PREFIX), NAMES[int(piece.source.file_id.removeprefix("file-"))])
        for piece in read(text)
        if isinstance(piece.source, Link)
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("before", ["", "See [it](", "See "])
@pytest.mark.parametrize("after", ["", ")", ".", ". And", ", ", "\n", '"', ">", "`"])
def test_a_link_to_a_known_file_is_marked(name: str, before: str, after: str) -> None:
    for written in (name, quote(name), quote(name, safe="")):
        assert linked(f"{before}{PREFIX}{written}{after}") == [(written, name)]


@pytest.mark.parametrize("name", NAMES)
def test_a_link_may_be_written_with_three_slashes(name: str) -> None:
    written = f"sandbox:///mnt/data/{name}"
    for texts in (
        [f"See {written}, and {PREFIX}report."],
        [*f"See {written}, and {PREFIX}report."],
    ):
        found = [(piece.text, piece.source) for piece in read(*texts) if piece.source]
        file_id = f"file-{NAMES.index(name)}"
        assert found == [
            (written, Link(written, file_id)),
            (f"{PREFIX}report", Link(f"{PREFIX}report", "file-6")),
        ]


@pytest.mark.parametrize(
    ("text", "links"),
    [
        (f"{PREFIX}my%20file (1).csv", [("my%20file (1).csv", "my file (1).csv")]),
        (f"{PREFIX}%e6%95%B0据.csv文件", [("%e6%95%B0据.csv", "数据.csv")]),
        (f"{PREFIX}out.csv.gz", [("out.csv.gz", "out.csv.gz")]),
        (f"{PREFIX}out.csv, {PREFIX}report", [("out.csv", "out.csv"), ("report", "report")]),
        (f"{PREFIX}{PREFIX}report", [("report", "report")]),
        (f"{PREFIX}a/b.txt or {PREFIX}a/b.txt", [("a/b.txt", "a/b.txt")] * 2),
    ],
)
def test_a_link_is_as_long_as_it_can_be(text: str, links: list[tuple[str, str]]) -> None:
    assert linked(text) == links


@pytest.mark.parametrize(
    "text",
    [
        f"{PREFIX}other.csv",
        f"{PREFIX}out.csv.zip",
        f"{PREFIX}out.csvx",
        f"{PREFIX}out.csv%20",
        f"{PREFIX}report_2.pdf",
        f"{PREFIX}report/2.pdf",
        f"{PREFIX}out.cs",
        f"{PREFIX}out.csv.g",
        f"{PREFIX}Out.csv",
        f"{PREFIX}../out.csv",
        f"{PREFIX}%E6%95",
        PREFIX,
        "sandbox:/mnt/dat",
        "sandbox://",
        "sandbox://mnt/data/out.csv",
        "sandbox:///mnt/data/",
        "sandbox:///mnt/data/other.csv",
        "/mnt/data/out.csv",
        "out.csv",
        "",
    ],
)
def test_any_other_link_stays_text(text: str) -> None:
    assert read(text) == ([Piece(text)] if text else [])


def test_text_is_passed_on_at_once() -> None:
    linker = Linker(FILES)
    assert linker.feed("As you see") == [Piece("As you see")]
    assert linker.feed(" sand") == [Piece(" ")]
    assert linker.feed("s box:") == [Piece("sands box:")]
    assert linker.feed("[x](sandbox:/mnt/data/o") == [Piece("[x](")]
    assert linker.feed("ut.csv") == []
    assert linker.feed(")") == [
        Piece(f"{PREFIX}out.csv", Link(f"{PREFIX}out.csv", "file-0")),
        Piece(")"),
    ]
    assert linker.feed(f"{PREFIX}x") == [Piece(f"{PREFIX}x")]


def test_no_more_is_held_back_than_a_path_may_have() -> None:
    linker = Linker([LinkedFile("x" * 100, "file-x")])
    text = f"{PREFIX}{quote('x' * 400)}"
    passed = "".join(piece.text for letter in text for piece in linker.feed(letter))
    assert passed == text


def test_citations_are_marked_too() -> None:
    text = f"It is [0:0†a.txt], see {PREFIX}out.csv[0:0†a.txt]."
    marks = [piece.source for piece in read(text, cites=True) if piece.source]
    assert marks == [SOURCE, Link(f"{PREFIX}out.csv", "file-0"), SOURCE]


TOKENS = st.sampled_from(
    [
        *"sandbox:/mnt/t.%0 \n()[】",
        *(PREFIX, PREFIX, "sandbox:", "/mnt/data/"),
        *(
            *NAMES,
            *map(quote, NAMES),
            ".csv",
            ".gz",
            "%E6",
            "%",
            "%2",
            "【0:0†a.txt】",
            "[0:0",
            "\U0001f600",
        ),
    ]
)
TEXTS = st.lists(TOKENS, max_size=12).map("".join)


@settings(deadline=None)
@given(TEXTS, st.booleans())
@example(
    f"\U0001f600 [x]({PREFIX}out.csv), {PREFIX}my%20file%20(1).csv. {PREFIX}out.csv.gzip", False
)
@example(f"【0:0†a.txt】{PREFIX}out.csv【0:0†a.txt】.gz {PREFIX}report【", True)
def test_how_an_answer_is_cut_changes_nothing(text: str, cites: bool) -> None:
    whole = read(text, cites=cites)
    assert read(*text, cites=cites) == whole
    for at in range(len(text) + 1):
        assert read(text[:at], text[at:], cites=cites) == whole
    if not cites:
        assert "".join(piece.text for piece in whole) == text


@given(TEXTS, st.integers(0, 200))
@example(f"\U0001f600 {PREFIX}out.csv 【0:0†a.txt】", 5)
def test_deltas_add_up_to_what_is_stored(text: str, cut: int) -> None:
    """Both kinds of annotations, and each at its place."""
    draft, rebuilt = PartDraft("text"), PartDraft("text")
    for piece in read(text[:cut], text[cut:], cites=True):
        rebuilt.add_delta(draft.delta(piece))
        draft.add(piece)
    stored = draft.content().model_dump()
    assert rebuilt.content().model_dump() == stored
    for annotation in stored["text"]["annotations"]:
        place = slice(annotation["start_index"], annotation["end_index"])
        assert stored["text"]["value"][place] == annotation["text"]
