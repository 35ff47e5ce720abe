"""Which numbers of a message are sums, and what Python they become."""

import pytest

from threadloom.llm.arithmetic import expressions, program


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ("What is 17 * 23?", "print(17 * 23)"),
        ("what's 12% of 340", "print(12 * 340 / 100)"),
        ("15 percent of (200 + 50)?", "print(15 / 100 * (200 + 50))"),
        ("sqrt(2)", "from math import sqrt\n\nprint(sqrt(2))"),
        ("The square root of 16, please", "from math import sqrt\n\nprint(sqrt(16))"),
        ("Compute 2^10 and (3 + 4) \u00d7 1,000.", "print(2**10)\nprint((3 + 4) * 1000)"),
        ("What is 2 to the power of 10?", "print(2 ** 10)"),
        ("100 divided by 7", "print(100 / 7)"),
        ("How much is 7 squared minus 3?", "print(7 ** 2 - 3)"),
        ("What is 3 x 4?", "print(3 * 4)"),
        ("Calculate 17 - 3", "print(17 - 3)"),
        ("5 - 3 = ?", "print(5 - 3)"),
        ("10 mod 3", "print(10 % 3)"),
        ("cos(pi) is what?", "from math import cos, pi\n\nprint(cos(pi))"),
        ("max(100,200) + 1", "print(max(100,200) + 1)"),
        ("What is (17 + 3", "print(17 + 3)"),
    ],
)
def test_sums_become_python(question: str, code: str) -> None:
    assert program(expressions(question)) == code


@pytest.mark.parametrize(
    "message",
    [
        "I was born on 2026-12-24.",
        "What is 2026-12-24?",
        "We are open 24/7, 10 - 20 people come.",
        "Call +49 170 1234567 or 555-1234",
        "I need a 2x4 plank",
        "What is 007 * 2?",
        "200 + 10%",
        "Q3-2024, version 1.2.3",
        "C++ 17",
        "* milk\n* eggs",
        "What is pi?",
        "What is " + "(" * 400 + "1" + ")" * 400 + " + 1?",
        "What is __import__('os') * 2?",
    ],
)
def test_other_numbers_are_no_sums(message: str) -> None:
    assert expressions(message) == ()


@pytest.mark.parametrize("message", ["1" * 200_000 + "a", "1 a " * 50_000, "(1+" * 50_000])
@pytest.mark.timeout(30)
def test_long_messages_are_read_in_time(message: str) -> None:
    assert expressions(message) == ()
