"""JSON is read strictly: what comes through can be parsed into types and stored."""

import orjson
import pytest

from threadloom.api.bodies import read_json
from threadloom.errors import InvalidRequest


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'"\\ud800"', b"\xff", b"NaN", b"[Infinity]", b"1" * 5000, b'"\0"', b"{'a': 1}"],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="We could not parse the JSON body") as caught:
        read_json(body)
    assert (caught.value.code, caught.value.param) == (None, None)


@pytest.mark.parametrize("depth", [101, 1000, 100_000])
def test_json_that_is_nested_too_deeply_is_refused(depth: int) -> None:
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        read_json(b"[" * depth + b"]" * depth)


@pytest.mark.parametrize(
    "body", [b"[" * 100 + b"1" + b"]" * 100, b"[" + b"{}," * 500 + b"{}]", b'"[[["']
)
def test_json_that_is_only_large_is_read(body: bytes) -> None:
    assert read_json(body) == orjson.loads(body)


def test_integers_beyond_64_bits_are_read_as_decimals() -> None:
    assert read_json(b"1" + b"0" * 30) == 1e30


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"metadata": {"k": "a\\u0000"}}', "metadata.k"),
        (b'{"tools": [1, {"name": "\\u0000"}]}', "tools[1].name"),
        (b'{"a": {"b\\u0000": 1}}', "a.b\\u0000"),
        (b'"\\u0000"', None),
    ],
)
def test_a_nul_character_is_refused_where_it_stands(body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest, match="string contains a NUL character") as caught:
        read_json(body)
    assert (caught.value.code, caught.value.param) == ("invalid_value", param)


def test_an_escaped_backslash_before_u0000_is_no_nul_character() -> None:
    assert read_json(rb'{"pattern": "\\u0000"}') == {"pattern": "\\u0000"}
