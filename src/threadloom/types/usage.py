"""What was used, in the form of OpenAI's usage API."""

from typing import Literal

from threadloom.types.shared import Sent, UnixSeconds

GroupBy = Literal["project_id", "api_key_id", "model", "assistant_id"]


class UsageResult(Sent):
    """What runs used in a bucket: all of them, or those with the values of what was grouped by; the others are null.

    `num_model_requests` counts answers of models, of which a run that calls tools has several. `num_runs`, of those that ended, and
    `assistant_id` are Threadloom's own.
    """

    object: Literal["organization.usage.completions.result"] = (
        "organization.usage.completions.result"
    )
    input_tokens: int
    output_tokens: int
    num_model_requests: int
    num_runs: int
    project_id: str | None = None
    api_key_id: str | None = None
    model: str | None = None
    assistant_id: str | None = None
    user_id: None = None
    batch: None = None


class UsageBucket(Sent):
    """One day (UTC); without results when nothing was used."""

    object: Literal["bucket"] = "bucket"
    start_time: UnixSeconds
    end_time: UnixSeconds
    results: list[UsageResult]


class UsagePage(Sent):
    """Days one after the other, oldest first; `next_page` is what `page` is to be for those that follow."""

    object: Literal["page"] = "page"
    data: list[UsageBucket]
    has_more: bool
    next_page: str | None
