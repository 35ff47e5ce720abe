"""What a project or a key may use. Not part of OpenAI's API."""

from pydantic import BaseModel, ConfigDict, Field


class LimitOverrides(BaseModel):
    """Limits of one project or key that differ from the server's; what is unset is the server's."""

    model_config = ConfigDict(frozen=True)

    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    concurrent_runs: int | None = Field(default=None, ge=1)
    storage: int | None = Field(default=None, ge=1)
    tokens_per_month: int | None = Field(default=None, ge=1)


NO_OVERRIDES = LimitOverrides()
