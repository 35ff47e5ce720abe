"""Tokens as the API shows them."""

from threadloom.llm.chat import Usage
from threadloom.types.runs import CompletionTokensDetails, PromptTokenDetails, RunUsage

NO_USAGE = RunUsage(prompt_tokens=0, completion_tokens=0, total_tokens=0)


def run_usage(usage: Usage) -> RunUsage:
    """Tokens of one turn as the API shows them."""
    return RunUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_token_details=PromptTokenDetails(cached_tokens=usage.cached_tokens),
        completion_tokens_details=CompletionTokensDetails(reasoning_tokens=usage.reasoning_tokens),
    )


def add_usage(one: RunUsage, other: RunUsage) -> RunUsage:
    return RunUsage(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        total_tokens=one.total_tokens + other.total_tokens,
        prompt_token_details=PromptTokenDetails(
            cached_tokens=one.prompt_token_details.cached_tokens
            + other.prompt_token_details.cached_tokens
        ),
        completion_tokens_details=CompletionTokensDetails(
            reasoning_tokens=one.completion_tokens_details.reasoning_tokens
            + other.completion_tokens_details.reasoning_tokens
        ),
    )
