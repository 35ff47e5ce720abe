"""Citations for models that do not cite: where a sentence clearly rests on a passage, and nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadloom.runs.attribution import LONGEST_SENTENCE, Attributor, Evidence
from threadloom.runs.citations import Citer, Piece, Source, Sources

WARRANTY = """# Warranty

The warranty of the Aurora lamp lasts 24 months from the date of purchase. Batteries are not covered by the
warranty. Repairs take five working days at our workshop in Lyon, and return shipping
to addresses in France is free of charge.

- Standard support costs 10 euros a month.
- Premium support costs 20 euros a month.
| Model | Watts |
Beta acquired Alpha in 2020 for 1,500 dollars. Sales increased in all of the shops."""
HISTORY = """The lighthouse of Cape Verde was built in 1847 by Portuguese engineers.
公司成立于1998年\uff0c总部位于上海市浦东新区。员工人数超过三千人。"""
TRAVEL = "The old ferry to Lyon leaves at noon every Sunday in summer."
SOURCES = [
    Source(0, 0, "file-w", "warranty.md", WARRANTY),
    Source(0, 1, "file-h", "history.txt", HISTORY),
    Source(0, 2, "file-t", "travel.txt", TRAVEL),
    Source(0, 3, "file-u", "travel_copy.txt", TRAVEL),
]
EVIDENCE = Evidence(SOURCES)
W, H = SOURCES[0].marker, SOURCES[1].marker


def written(*texts: str) -> list[Piece]:
    reader = Attributor(Citer(Sources(SOURCES)), EVIDENCE)
    pieces = [piece for text in texts for piece in reader.feed(text)]
    return [*pieces, *reader.finish()]


def attributed(*texts: str) -> str:
    return "".join(piece.text for piece in written(*texts))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            "The warranty of the Aurora lamp lasts 24 months.",
            f"The warranty of the Aurora lamp lasts 24 months.{W}",
        ),
        (
            "Hello! The Aurora lamp's warranty lasts 24 months. Anything else?",
            f"Hello! The Aurora lamp's warranty lasts 24 months.{W} Anything else?",
        ),
        (
            "**Batteries are not covered by the warranty.**\n\nBye",
            f"**Batteries are not covered by the warranty.**{W}\n\nBye",
        ),
        (
            "- Premium support costs 20 euros a month\n- Sleep",
            f"- Premium support costs 20 euros a month{W}\n- Sleep",
        ),
        (
            "Repairs take 5 working days, and return shipping in France is free of charge.",
            f"Repairs take 5 working days, and return shipping in France is free of charge.{W}",
        ),
        (
            "It was a lighthouse built in 1847 by Portuguese engineers.  And so on.",
            f"It was a lighthouse built in 1847 by Portuguese engineers.{H}  And so on.",
        ),
        (
            "公司成立于1998年\uff0c总部位于上海市浦东新区。谢谢",
            f"公司成立于1998年\uff0c总部位于上海市浦东新区。{H}谢谢",
        ),
        (
            "Beta acquired Alpha in 2020 for 1500 dollars.",
            f"Beta acquired Alpha in 2020 for 1500 dollars.{W}",
        ),
    ],
)
def test_a_sentence_that_rests_on_a_passage_is_cited(answer: str, expected: str) -> None:
    assert attributed(answer) == expected


@pytest.mark.parametrize(
    "answer",
    [
        "Hello! How can I help you today?",
        "You are welcome, and thank you for asking.",
        "I could not find anything about this in the documents that you attached.",
        "The capital of Peru is Lima, a city of ten million people.",
        # other numbers, names, negations, opposites, roles
        "The warranty of the Aurora lamp lasts 36 months from the date of purchase.",
        "The warranty of the Aurora lamp lasts two months from the date of purchase.",
        "The warranty of the Borealis lamp lasts 24 months from the date of purchase.",
        "Batteries are covered by the warranty.",
        "Repairs never take five working days at our workshop in Lyon.",
        "Standard support costs 20 euros a month.",
        "Alpha acquired Beta in 2020 for 1,500 dollars.",
        "Sales decreased in all of the shops.",
        "The lighthouse of Cape Town was built in 1847 by Portuguese engineers.",
        # true to the words, but no statement, or too little to go by
        "Does the warranty of the Aurora lamp last 24 months?",
        "24 months. The warranty.",
        "The lamp lasts in Lyon, and so do the batteries of the workshop in France.",
        # in two files alike
        "The old ferry to Lyon leaves at noon every Sunday in summer.",
        # no prose
        "```\nThe warranty of the Aurora lamp lasts 24 months.\n```",
        "# The warranty of the Aurora lamp lasts 24 months\n",
        "| The warranty of the Aurora lamp lasts 24 months. | yes |\n",
        "a " * LONGEST_SENTENCE,
        "",
    ],
)
def test_nothing_else_is_cited(answer: str) -> None:
    assert attributed(answer) == answer


def test_prose_after_code_is_cited_again() -> None:
    answer = "```\nx\n```\nBatteries are not covered by the warranty."
    assert attributed(answer) == answer + W


@pytest.mark.parametrize("place", ["", " ", "\n"])
def test_a_sentence_that_the_model_cites_gets_no_second_marker(place: str) -> None:
    answer = f"Batteries are not covered by the warranty.{place}{H} Standard support costs 10 euros a month."
    assert attributed(answer) == answer


def test_sentences_before_the_models_own_first_citation_are_cited() -> None:
    first, second = "Batteries are not covered by the warranty.", "Ships sail."
    assert attributed(f"{first} {second}[0:1] {first}") == f"{first}{W} {second}{H} {first}"


def test_no_text_waits_for_a_sentence_to_end() -> None:
    reader = Attributor(Citer(Sources(SOURCES)), EVIDENCE)
    assert reader.feed("Batteries are not covered by the war") == [
        Piece("Batteries are not covered by the war")
    ]
    assert reader.feed("ranty.") == [Piece("ranty.")]
    assert reader.feed(" ") == []
    assert reader.feed("\nOr") == [Piece(W, SOURCES[0]), Piece(" \nOr")]
    assert reader.feed("  so") == [Piece("  so")]


SENTENCES = st.sampled_from(
    [
        "The warranty of the Aurora lamp lasts 24 months.",
        "Batteries are not covered by the warranty.",
        "Ships sail.",
        "公司成立于1998年\uff0c总部位于上海市浦东新区。",
        "```\n",
        "\n",
        " ",
        "【0:1†x】",
        "[0:0]",
        "- Premium support costs 20 euros a month",
        "(e.g. 3.5)",
    ]
)


@given(st.lists(SENTENCES, max_size=6).map("".join), st.data())
def test_how_an_answer_is_cut_changes_no_attribution(answer: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(answer)))
    whole = attributed(answer)
    assert attributed(*answer) == whole
    assert attributed(answer[:at], answer[at:]) == whole


@given(st.lists(SENTENCES, max_size=6).map("".join))
def test_attribution_changes_no_text(answer: str) -> None:
    reader = Citer(Sources(SOURCES))
    cited = [*reader.feed(answer), *reader.finish()]
    plain = "".join(piece.text for piece in cited if piece.source is None)
    assert "".join(piece.text for piece in written(answer) if piece.source is None) == plain
