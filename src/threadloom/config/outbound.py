"""Requests to addresses that clients chose."""

from pydantic import Field

from threadloom.config.values import Duration, Section


class Outbound(Section):
    """Requests to addresses that clients chose: webhooks and pictures."""

    allow: tuple[str, ...] = Field(
        default=(),
        description="Networks (`10.0.0.0/8`) or hosts that may be called although they are not public.",
    )
    timeout: Duration = Field(default=20.0, description="To fetch one picture.")
    max_bytes: int = Field(
        default=20 * 1024 * 1024, ge=1, description="Largest picture that is fetched."
    )
