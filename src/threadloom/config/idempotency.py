"""Requests that are sent again."""

from pydantic import Field

from threadloom.config.values import Duration, Section


class Idempotency(Section):
    """What an `Idempotency-Key` does."""

    keep: Duration = Field(default=86400.0, description="How long a first answer is given again.")
    wait: Duration = Field(
        default=30.0, description="How long a duplicate waits for the first request's answer."
    )
