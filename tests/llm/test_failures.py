import pytest

from threadloom.llm.failures import ProviderError, error_of, failure_in_stream


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"error": {"message": "m", "code": "c", "type": "t"}}', ProviderError("m", "c", "t")),
        (b'{"error": {"message": "m", "code": 400}}', ProviderError("m", "400")),
        (b'{"error": "model not found"}', ProviderError("model not found")),
        (b'{"detail": "Not Found"}', ProviderError("Not Found")),
        (b'{"object": "error", "message": "m"}', ProviderError("m")),
        (b'{"error": 7}', ProviderError()),
        (b"[]", ProviderError()),
        (b"<html>Bad gateway</html>", ProviderError()),
        (b"", ProviderError()),
    ],
)
def test_providers_word_their_errors_differently(body: bytes, error: ProviderError) -> None:
    assert error_of(body) == error


@pytest.mark.parametrize(
    ("error", "code", "retriable"),
    [
        ({"code": 429, "message": "Slow"}, "rate_limit_exceeded", True),
        ({"type": "rate_limit_error", "message": "Slow"}, "rate_limit_exceeded", True),
        ({"code": 502, "message": "secret"}, "server_error", True),
        ({"code": "odd"}, "server_error", False),
        ("text", "server_error", False),
    ],
)
def test_an_error_in_a_stream_has_a_code(error: object, code: str, retriable: bool) -> None:
    failure = failure_in_stream(error, None)
    assert (failure.shown.code, failure.retriable) == (code, retriable)
    assert "secret" not in failure.shown.message
