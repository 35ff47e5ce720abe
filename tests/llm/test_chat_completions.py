import asyncio

import httpx2
import orjson
import pytest
import structlog

from tests.llm.conftest import QUICK, Remote
from tests.llm.conversation import (
    WEATHER,
    ask,
    called,
    ending,
    events,
    failure,
    first,
    text,
    until_failure,
    until_finished,
    written,
)
from threadloom.backoff import Backoff
from threadloom.config import ModelCalls
from threadloom.llm.chat import RefusalDelta
from threadloom.llm.chat_completions import ChatCompletions, Endpoint
from threadloom.testing import SequentialIds
from threadloom.testing.upstream import Answer, Upstream, error_answer

SORRY = "Sorry, something went wrong."


def streamed(*payloads: bytes) -> Answer:
    return Answer(chunks=tuple(b"data: " + payload + b"\n\n" for payload in payloads))


async def test_the_request_asks_for_a_stream_with_usage(remote: Remote, upstream: Upstream) -> None:
    await events(remote(), ask("Hi", temperature=0.0, max_completion_tokens=9))
    assert upstream.requests == [
        {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": "Hi"}],
            "temperature": 0.0,
            "max_tokens": 9,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]
    assert upstream.headers[0]["authorization"] == "Bearer sk-secret"


async def test_one_connection_serves_call_after_call(remote: Remote, upstream: Upstream) -> None:
    model = remote()
    for _ in range(5):
        await events(model, ask("Hi"))
    assert upstream.connections == 1


async def test_whoever_stops_at_the_end_leaves_a_usable_connection(
    remote: Remote, upstream: Upstream
) -> None:
    model = remote()
    for _ in range(5):
        await until_finished(model, ask("[[text:Hello there]] [[rate:500]]"))
    assert upstream.connections == 1


async def test_a_server_that_does_not_close_its_answer_is_left(
    remote: Remote, upstream: Upstream
) -> None:
    chunk = b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'
    upstream.answers(Answer(chunks=(chunk + b"data: [DONE]\n\n", b""), hang_after=1))
    assert await text(remote(), ask("Hi")) == "Hi"


async def test_a_plain_completion_is_accepted(remote: Remote) -> None:
    seen = await events(
        remote(), ask('[[plain]] [[tool:get_weather {"city":"Paris"}]]', tools=(WEATHER,))
    )
    assert [call.arguments for call in called(seen)] == ['{"city":"Paris"}']
    assert ending(seen).usage is not None


async def test_a_refusal_streams(remote: Remote) -> None:
    seen = await events(remote(), ask("[[refuse:I will not]]"))
    assert "".join(e.text for e in seen if isinstance(e, RefusalDelta)) == "I will not"


@pytest.mark.parametrize(
    "quirk", ["crlf", "no-done", "no-usage", "no-finish", "finish:weird", "rate:200"]
)
async def test_harmless_quirks_change_nothing(remote: Remote, quirk: str) -> None:
    seen = await events(remote(), ask(f"[[text:Hello there]] [[{quirk}]]"))
    assert written(seen) == "Hello there"
    assert ending(seen).reason == "stop"


async def test_a_server_that_does_not_count_is_believed(remote: Remote) -> None:
    assert ending(await events(remote(), ask("[[no-usage]]"))).usage is None


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
async def test_passing_failures_are_tried_again(
    remote: Remote, upstream: Upstream, status: int
) -> None:
    message = f"[[status:{status} times=2]] [[text:Hello]]"
    assert await text(remote(retries=2), ask(message)) == "Hello"
    assert upstream.calls[message] == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_refusals_are_not_tried_again(
    remote: Remote, upstream: Upstream, status: int
) -> None:
    await failure(remote(retries=2), ask(f"[[status:{status}]]"))
    assert len(upstream.requests) == 1


async def test_tries_are_limited(remote: Remote, upstream: Upstream) -> None:
    await failure(remote(retries=1), ask("[[status:500]]"))
    assert len(upstream.requests) == 2


async def test_a_connection_lost_before_the_first_event_is_tried_again(
    remote: Remote, upstream: Upstream
) -> None:
    await failure(remote(retries=2), ask("[[drop-after:0]]"))
    assert len(upstream.requests) == 3


async def test_a_connection_lost_later_is_not(remote: Remote, upstream: Upstream) -> None:
    seen = await until_failure(remote(retries=2), ask("[[text:One two three]] [[drop-after:2]]"))
    assert written(seen) == "One two"
    assert len(upstream.requests) == 1


async def test_a_cut_after_the_finish_reason_is_an_end(remote: Remote, upstream: Upstream) -> None:
    chunk = b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'
    upstream.answers(Answer(chunks=(chunk, b": never sent\n\n"), drop_after=1))
    assert await text(remote(), ask("Hi")) == "Hi"


async def test_nobody_listening_is_a_server_error() -> None:
    async with httpx2.AsyncClient(trust_env=False) as client, Upstream() as upstream:
        endpoint = Endpoint("gone", upstream.base_url)
        model = ChatCompletions(
            client, endpoint, calls=ModelCalls(), ids=SequentialIds(), backoff=QUICK
        )
        await upstream.__aexit__()
        error = await failure(model, ask("Hi"))
    assert (error.code, error.message) == ("server_error", SORRY)


@pytest.mark.parametrize(
    ("directive", "code", "message"),
    [
        ("status:429 message=Rate limit reached for m", "rate_limit_exceeded", "Rate limit reached for m"),
        ("status:429 message=The key sk-secret is slow", "rate_limit_exceeded", "The key *** is slow"),
        ("status:429 message=Limit of org-Ab1 and proj_9x", "rate_limit_exceeded", "Limit of *** and ***"),
        ("status:500 message=Traceback: secret", "server_error", SORRY),
        ("status:502", "server_error", SORRY),
        ("status:400 message=Unknown field", "server_error", SORRY),
        ("status:400 code=context_length_exceeded", "invalid_prompt", "The conversation is too long for the model 'gpt-4o'."),
        ("status:413", "invalid_prompt", "The conversation is too long"),
        ("status:400 message=This model's maximum context length is 10", "invalid_prompt", "The conversation is too long"),
        ("status:400 code=content_policy_violation", "invalid_prompt", "The provider of the model 'gpt-4o' refused"),
        ("status:400 code=invalid_image_url", "invalid_prompt", "The model 'gpt-4o' could not read an image"),
        ("status:400 code=invalid_prompt", "invalid_prompt", "The model 'gpt-4o' refused the prompt"),
        ("status:401 message=Bad key sk-secret", "server_error", "The model provider 'scripted' does not accept this server's key. The operator should check THREADLOOM_UPSTREAM__API_KEY."),
        ("status:403", "server_error", "The model provider 'scripted' does not accept"),
        ("status:404 message=model gpt-4o not found", "server_error", "The model 'gpt-4o' does not exist. "),
        ("status:404 message=Not Found", "server_error", "The model provider 'scripted' has no Chat Completions at its address."),
        ("garbage", "server_error", SORRY),
        ("no-done]] [[no-finish", "server_error", SORRY),
    ],
)  # fmt: skip
async def test_failures_have_a_code_and_a_sentence(
    remote: Remote, directive: str, code: str, message: str
) -> None:
    error = await failure(remote(), ask(f"[[{directive}]]"))
    assert error.code == code
    assert error.message.startswith(message)
    assert "sk-secret" not in error.message


async def test_an_error_inside_the_stream_is_told_like_one_outside(
    remote: Remote, upstream: Upstream
) -> None:
    limited = b'{"error": {"code": 429, "message": "Slow down"}}'
    upstream.answers(*[streamed(limited)] * 3)
    error = await failure(remote(retries=2), ask("Hi"))
    assert (error.code, error.message) == ("rate_limit_exceeded", "Slow down")
    assert len(upstream.requests) == 3


@pytest.mark.parametrize("hang", ["hang", "hang:headers", "hang:0"])
async def test_a_server_that_says_nothing_is_left_in_time(
    remote: Remote, upstream: Upstream, hang: str
) -> None:
    error = await failure(remote(first_token_timeout=0.05), ask(f"[[{hang}]]"))
    assert (error.code, error.message) == ("server_error", SORRY)
    assert len(upstream.requests) == 1


async def test_a_server_that_falls_silent_is_left_in_time(remote: Remote) -> None:
    model = remote(idle_timeout=0.05)
    assert (
        written(await until_failure(model, ask("[[text:One two three]] [[hang:2]]"))) == "One two"
    )


async def test_hanging_calls_do_not_hold_up_others(remote: Remote) -> None:
    model = remote()
    hanging = [asyncio.create_task(events(model, ask("[[hang]]"))) for _ in range(150)]
    assert await text(model, ask("[[text:Hello]]")) == "Hello"
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_a_cancelled_call_closes_its_connection(remote: Remote, upstream: Upstream) -> None:
    await first(remote(), ask("[[text:One two]] [[hang:1]]"))
    await events(remote(), ask("Hi"))
    assert upstream.connections == 2


async def test_a_chunk_of_megabytes_arrives_whole(remote: Remote, upstream: Upstream) -> None:
    content = "ä" * 2_000_000
    payload = orjson.dumps({"choices": [{"delta": {"content": content}, "finish_reason": "stop"}]})
    upstream.answers(streamed(payload, b"[DONE]"))
    assert await text(remote(), ask("Hi")) == content


@pytest.mark.parametrize("start", [b"data: ", b"{"])
async def test_a_chunk_without_end_is_refused(
    remote: Remote, upstream: Upstream, start: bytes
) -> None:
    upstream.answers(Answer(chunks=(start, *[b"x" * 1_000_000] * 11)))
    assert (await failure(remote(), ask("Hi"))).message == SORRY


async def test_the_log_has_the_facts_but_no_text_and_no_key(remote: Remote) -> None:
    with structlog.testing.capture_logs() as logs:
        await failure(remote(), ask("[[status:400 code=odd message=about my private life]]"))
    assert [(entry["status"], entry["code"], entry["provider"]) for entry in logs] == [
        (400, "odd", "scripted")
    ]
    assert "private" not in str(logs)
    assert "sk-secret" not in str(logs)


@pytest.mark.parametrize(
    ("attempt", "asked", "seconds"),
    [
        (0, None, 0.375),
        (1, None, 0.75),
        (9, None, 6.0),
        (0, 3.0, 3.0),
        (0, 900.0, 30.0),
        (2, 0.0, 0.0),
    ],
)
def test_the_wait_grows_unless_the_provider_names_it(
    attempt: int, asked: float | None, seconds: float
) -> None:
    assert Backoff(jitter=lambda: 0.5).seconds(attempt, asked) == seconds


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("retry-after-ms", "20"),
        ("retry-after", "0.02"),
        ("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"),
    ],
)
async def test_the_providers_wish_is_heard(
    remote: Remote, upstream: Upstream, header: str, value: str
) -> None:
    upstream.answers(error_answer(503, {}, ((header, value),)))
    assert await text(remote(), ask("[[text:Hello]]")) == "Hello"


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://x.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("https://openai.com.example/v1", "max_tokens"),
        ("http://127.0.0.1:11434/v1", "max_tokens"),
    ],
)
def test_openai_is_told_by_its_address(url: str, field: str) -> None:
    assert Endpoint("x", url).dialect.limit_field == field
