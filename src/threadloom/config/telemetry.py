"""What an operator sees."""

from pydantic import Field, SecretStr

from threadloom.config.values import Section


class Telemetry(Section):
    """Metrics and traces. Nothing is sent anywhere unless `otlp_endpoint` is set."""

    metrics: bool = Field(default=True, description="Count, and answer `GET /metrics`.")
    open_metrics: bool = Field(
        default=False,
        description="Answer `GET /metrics` to everybody; otherwise only to this machine, and to `auth.admin_key`.",
    )
    host: str = Field(default="127.0.0.1", description="Address of `telemetry.port`.")
    port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="A port that answers `GET /metrics` alone, without a key. Workers and sandbox runners have no other.",
    )
    otlp_endpoint: str | None = Field(
        default=None,
        pattern="^https?://",
        description="Where traces of runs are sent: a collector that speaks OTLP over HTTP, such as `http://collector:4318`.",
    )
    otlp_headers: dict[str, SecretStr] = Field(
        default_factory=dict[str, SecretStr], description="What the collector wants, such as a key."
    )
    sampling: float = Field(
        default=1.0, ge=0, le=1, description="The share of runs that are traced."
    )
