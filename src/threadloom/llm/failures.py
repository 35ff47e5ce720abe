"""What a provider's refusal means for the run: the code and the sentence that a client sees."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

import orjson

from threadloom.backoff import retry_after
from threadloom.llm.chat import ModelError

SORRY = "Sorry, something went wrong."
LONGEST_MESSAGE = 500
ACCOUNT = re.compile(r"\b(org-|proj_)\w+")
RETRIABLE = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
)
TOO_LONG = re.compile(
    r"context.?(length|window|size)|maximum context|too many (input )?tokens|prompt is too long"
    r"|reduce the length|input is too long",
    re.IGNORECASE,
)
POLICY = re.compile(
    r"content.?(policy|filter|management)|usage polic|safety|moderation", re.IGNORECASE
)
IMAGE = re.compile(
    r"invalid_?image|image_parse|(un)?support\w* image|image input|download\w* image|image url",
    re.IGNORECASE,
)


class Provider(Protocol):
    """Of whom failures speak."""

    @property
    def name(self) -> str: ...
    @property
    def api_key(self) -> str | None: ...
    @property
    def key_setting(self) -> str: ...
    @property
    def url_setting(self) -> str: ...


@dataclass(frozen=True)
class ProviderError:
    """The `error` of an answer, as far as it has the usual shape."""

    message: str = ""
    code: str = ""
    type: str = ""


class Failure(Exception):
    """A try that failed: what the client will see, and what the log and the next try need."""

    def __init__(
        self,
        shown: ModelError,
        reason: str,
        *,
        retriable: bool = False,
        retry_after: float | None = None,
        status: int | None = None,
        provider_code: str = "",
    ) -> None:
        super().__init__(reason)
        self.shown = shown
        self.reason = reason
        self.retriable = retriable
        self.retry_after = retry_after
        self.status = status
        self.provider_code = provider_code


def error_of(body: bytes) -> ProviderError:
    """`{"error": {…}}`, `{"error": "…"}`, FastAPI's `{"detail": …}` or `{"message": …}`."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ProviderError()
    if not isinstance(content, dict):
        return ProviderError()
    return provider_error(content.get("error") or content.get("detail") or content)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def provider_error(error: object) -> ProviderError:
    if not isinstance(error, dict):
        return ProviderError(error if isinstance(error, str) else "")
    fields: dict[str, Any] = error  # pyright: ignore[reportUnknownVariableType]
    names = ("message", "code", "type")
    return ProviderError(*(str(fields.get(name) or "") for name in names))


def failure_of_status(
    status: int,
    headers: Mapping[str, str],
    error: ProviderError,
    *,
    model: str,
    endpoint: Provider,
) -> Failure:
    """The answer to a request was not a 200."""
    return Failure(
        shown(status, error, model, endpoint),
        "refused",
        retriable=is_retriable(status),
        retry_after=retry_after(headers),
        status=status,
        provider_code=error.code[:64],
    )


def failure_in_stream(error: object, api_key: str | None) -> Failure:
    """The answer began with a 200 and then reported an error."""
    found = provider_error(error)
    status = int(found.code) if found.code.isdecimal() else None
    limited = status == HTTPStatus.TOO_MANY_REQUESTS or "rate_limit" in found.code + found.type
    shown_error = rate_limited(found, api_key) if limited else ModelError("server_error", SORRY)
    return Failure(
        shown_error,
        "error inside the answer",
        retriable=limited or is_retriable(status or 0),
        status=status,
        provider_code=found.code[:64],
    )


def is_retriable(status: int) -> bool:
    return status in RETRIABLE or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def shown(status: int, error: ProviderError, model: str, endpoint: Provider) -> ModelError:
    match status:
        case 429:
            return rate_limited(error, endpoint.api_key)
        case 401 | 403:
            return bad_key(endpoint)
        case 404:
            return not_found(error, model, endpoint)
        case 400 | 413 | 422:
            return bad_prompt(status, error, model) or ModelError("server_error", SORRY)
        case _:
            return ModelError("server_error", SORRY)


def rate_limited(error: ProviderError, api_key: str | None) -> ModelError:
    """In the provider's words, as the hosted service had it: programs read in them how long to wait. Whose account it is, is not told."""
    message = ACCOUNT.sub("***", error.message) or "Rate limit reached. Please try again later."
    if api_key:
        message = message.replace(api_key, "***")
    return ModelError("rate_limit_exceeded", message[:LONGEST_MESSAGE])


def bad_key(endpoint: Provider) -> ModelError:
    return ModelError(
        "server_error",
        f"The model provider '{endpoint.name}' does not accept this server's key. "
        f"The operator should check {endpoint.key_setting}.",
    )


def not_found(error: ProviderError, model: str, endpoint: Provider) -> ModelError:
    """Ollama, vLLM and OpenAI word it differently, but all speak of the model; a wrong address does not."""
    if "model" in (error.message + error.code).lower():
        return unknown_model(model, f"The provider '{endpoint.name}' does not know it.")
    return ModelError(
        "server_error",
        f"The model provider '{endpoint.name}' has no Chat Completions at its address. "
        f"The operator should check that {endpoint.url_setting} ends in /v1.",
    )


def unknown_model(model: str, known: str) -> ModelError:
    """OpenAI's sentence first, then what to do."""
    return ModelError(
        "server_error",
        f"The model '{model}' does not exist. {known} "
        f'Use another model, or let THREADLOOM_ALIASES lead to one: {{"{model}": "<a model it knows>"}}.',
    )


def bad_prompt(status: int, error: ProviderError, model: str) -> ModelError | None:
    """The refusals that a caller can do something about."""
    text = f"{error.code} {error.type} {error.message}"
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or TOO_LONG.search(text):
        return ModelError(
            "invalid_prompt",
            f"The conversation is too long for the model '{model}'. Shorten it, or limit it with "
            "`truncation_strategy` or `max_prompt_tokens`.",
        )
    if POLICY.search(text):
        return ModelError(
            "invalid_prompt",
            f"The provider of the model '{model}' refused the conversation under its content policy.",
        )
    if IMAGE.search(text):
        return ModelError(
            "invalid_prompt", f"The model '{model}' could not read an image of the conversation."
        )
    if error.code == "invalid_prompt":
        return ModelError("invalid_prompt", f"The model '{model}' refused the prompt as invalid.")
    return None
