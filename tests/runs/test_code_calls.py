"""What models write as a call of the code interpreter, and the code that is read in it."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from threadloom.runs.code_calls import CodeReader, code_as_agreed, code_as_read, code_of

BARE = 'import re\nprint("a", {"b": 1})\n'
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def pieces(*arguments: str) -> list[str]:
    """What is shown after each piece of the arguments, and at their end."""
    reader = CodeReader()
    shown = [*(reader.feed(each) for each in arguments), reader.finish()]
    return [delta["code_interpreter"]["input"] if delta else "" for delta in shown]


def test_a_piece_is_what_a_stream_adds_to_the_call() -> None:
    reader = CodeReader()
    assert reader.feed('{"code": "') is None
    assert reader.feed("print(") == {
        "type": "code_interpreter",
        "code_interpreter": {"input": "print("},
    }
    assert reader.feed('1)"}') == {"type": "code_interpreter", "code_interpreter": {"input": "1)"}}
    assert reader.finish() is None


@pytest.mark.parametrize(
    "code", ["", "print(1)", BARE, '\\d \\\\ """ \'\t\r\b\f/', "é 标 \U0001f600"]
)
@pytest.mark.parametrize("escaping", [True, False])
def test_the_code_is_what_the_argument_says(code: str, escaping: bool) -> None:
    assert code_of(json.dumps({"code": code}, ensure_ascii=escaping)) == code
    assert code_of(json.dumps({"code": code}, ensure_ascii=escaping, indent=2)) == code


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        # Another shape
        (BARE, BARE),
        ('{"input": "print(1)"}', "print(1)"),
        ('{"language": "python", "code": "print(1)"}', "print(1)"),
        ('{"no\\"te": "a \\"b\\"", "code": "print(1)"}', "print(1)"),
        ('{"timeout": 5, "code": "print(1)", "note": "longer than the code"}', "print(1)"),
        ('{"language": "python", "source": "print(1)"}', "print(1)"),
        ('{"arguments": {"code": "print(1)"}}', "print(1)"),
        ('{"code": ["a = 1", "print(a)"]}', "a = 1\nprint(a)"),
        ('"print(1)"', "print(1)"),
        (json.dumps(json.dumps({"code": 'print("1")'})), 'print("1")'),
        ("{'code': 'print(\\'1\\')'}", "print('1')"),
        # Fences
        ("```python\nprint(1)\n```", "print(1)"),
        ("\n```\nprint(1)\n\nprint(2)\n```\nThis prints.", "print(1)\n\nprint(2)"),
        ("```print(1)```", "print(1)"),
        ('```json\n{"code": "print(1)"}\n```', "print(1)"),
        ('{"code": "```py\\nprint(1)\\n```"}', "print(1)"),
        ("```py\nx = '''\n``\n'''\n```", "x = '''\n``\n'''"),
        ("``` is no Python", ""),
        # What follows
        ('{"code": "print(1)"}}', "print(1)"),
        ('{"code": "print(1)"}<|end|>', "print(1)"),
        ('{"input": "print(1)"} And so on.', "print(1)"),
        # Forgotten escapes
        ('{"code": "print("a", "b")"}', 'print("a", "b")'),
        ('{"code": "d = {"a": "b"}\\nprint(d)"} ', 'd = {"a": "b"}\nprint(d)'),
        ('{"code": "a\nb"}', "a\nb"),
        ('{"code": "re.sub(\'\\d+\\s\')"}', "re.sub('\\d+\\s')"),
        ('{"code": "C:\\users \\u12"}', "C:\\users \\u12"),
        # Cut short
        ('{"code": "print(1', "print(1"),
        ('{"code": "print(1)"', "print(1)"),
        ('{"code": "a\\u00', "a\\u00"),
        ("```python\nprint(1)", "print(1)"),
        ("```python\nprint(1)\n", "print(1)\n"),
        ('{"co', '{"co'),
        # Halves of characters
        ('{"code": "\\ud83d\\ude00"}', "\U0001f600"),
        ('{"code": "\\ud83d"}', REPLACEMENT),
        ('{"code": "\\ude00\\ud83dx\\ud83d', f"{REPLACEMENT}{REPLACEMENT}x{REPLACEMENT}"),
        # Python that looks like JSON
        ("1", "1"),
        ("{x for x in y}", "{x for x in y}"),
        ('["a", "b"]', '["a", "b"]'),
        ('"""Say it."""\nprint(1)', '"""Say it."""\nprint(1)'),
        ('"a" + "b"', '"a" + "b"'),
        # None
        ("", ""),
        ("{}", ""),
        ('{"code": 1}', ""),
        ('{"code": null, "a": "b"}', ""),
    ],
)
def test_code_is_found_however_it_is_written(arguments: str, code: str) -> None:
    assert code_of(arguments) == code


def test_json_of_any_depth_is_no_fault() -> None:
    deep = '{"a": ' * 100_000
    assert code_of(deep) == deep
    nested = '{"a":' * 400 + '"print(1)"' + "}" * 400
    assert code_of(nested) in ("print(1)", nested)


@pytest.mark.parametrize(
    "arguments",
    [
        '{"code": "abc',
        "  {\n'code':'abc",
        '{"language": "python", "code": "abc',
        "abc",
        "```py\nabc",
    ],
)
def test_code_is_shown_as_it_arrives(arguments: str) -> None:
    assert pieces(*arguments)[-4:] == ["a", "b", "c", ""]
    assert pieces(arguments, "def") == ["abc", "def", ""]


def test_only_what_may_mean_something_else_waits() -> None:
    assert pieces('{"code":"a\\', 'n"', "b", '"', " }") == ["a", "\n", '"b', "", "", ""]
    assert pieces('{"code":"\\ud83d', "\\ude00", "x") == ["", "\U0001f600", "x", ""]
    assert pieces("```py\nx\n", "``", "y\n```", "z") == ["x", "", "\n``y", "", ""]
    assert pieces("{", "1: 2}") == ["", "", "{1: 2}"]


TOKENS = st.sampled_from(
    [
        *"{}[]\"':,\\`\n \tuabnd8309é",
        *('"code"', "'code'", '{"code": "', "{'code':'", '{"input": "', '"language": "python",'),
        *(
            "```",
            "```py\n",
            "\n```",
            '"}',
            "\\n",
            '\\"',
            "\\u00e9",
            "\\ud83d",
            "\\ude00",
            "\U0001f600",
        ),
        *("\\ud83d\\ude00", "\\u12", "print(1)", '"""'),
    ]
)
ARGUMENTS = st.lists(TOKENS, max_size=14).map("".join)
CODE = st.text(st.sampled_from("ab1 \n\t\"'\\`{}é标\U0001f600")) | st.text()


@settings(deadline=None)
@given(CODE, st.booleans(), st.sampled_from([None, 1, 4]))
@example("\ud83d\ude00 \ud83d", True, None)
@example("", True, None)
def test_reading_at_once_gives_the_same(code: str, escaping: bool, indent: int | None) -> None:
    arguments = json.dumps({"code": code}, ensure_ascii=escaping, indent=indent)
    assert code_as_agreed(arguments) in (code_as_read(arguments), None)
    assert "`" in code or code_as_agreed(arguments) is not None


@pytest.mark.parametrize(
    "arguments", ['[["code", "1"]]', '{"code": "1", "code": "2"}', '{"code": 1}', '"1"', "1", "{"]
)
def test_what_is_not_as_agreed_is_read_character_by_character(arguments: str) -> None:
    assert code_as_agreed(arguments) is None


@given(ARGUMENTS)
@example('```json\n{"code": "```py\\nprint(\\"\\ud83d\\ude00\\")\\n```"}\n```')
@example('{"language": "py", "code": "print("a")\\u0041\\ud83d"}}')
def test_how_arguments_are_cut_changes_nothing(arguments: str) -> None:
    whole = code_of(arguments)
    whole.encode()
    assert "".join(pieces(*arguments)) == whole
    for at in range(len(arguments) + 1):
        assert "".join(pieces(arguments[:at], arguments[at:])) == whole


@given(CODE, st.booleans(), st.sampled_from([None, 1, 4]))
@example('"\n}', True, None)
@example("\\", False, 1)
def test_what_is_well_formed_is_read_exactly(code: str, escaping: bool, indent: int | None) -> None:
    arguments = json.dumps({"code": code}, ensure_ascii=escaping, indent=indent)
    if not code.lstrip().startswith("```"):
        assert code_of(arguments) == code
