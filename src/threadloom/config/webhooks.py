"""Telling programs what happened."""

from pydantic import Field

from threadloom.config.values import Duration, Section


class Webhooks(Section):
    """Deliveries to the endpoints of projects."""

    timeout: Duration = Field(default=10.0, description="How long an endpoint may take to answer.")
    concurrency: int = Field(
        default=16, ge=1, description="Deliveries that one worker process makes at once."
    )
    per_endpoint: int = Field(
        default=4, ge=1, description="How many of them go to the same endpoint."
    )
    pause: Duration = Field(
        default=2.0,
        description="How long a failed delivery waits before it is tried again; doubled each time, up to an hour.",
    )
    give_up_after: Duration = Field(
        default=3 * 86400.0, description="How long a delivery is tried again, with growing pauses."
    )
    keep: Duration = Field(
        default=7 * 86400.0, description="How long ended deliveries stay in the log."
    )
    max_endpoints: int = Field(default=20, ge=1, description="Endpoints that a project may have.")
