"""How much may be asked for."""

from pydantic import Field

from threadloom.config.values import Section


class Limits(Section):
    """What a project and each of its keys may use, unless `threadloom limits` says otherwise for them; unset means no limit."""

    requests_per_minute: int | None = Field(
        default=None, ge=1, description="Requests of one key in a minute."
    )
    tokens_per_minute: int | None = Field(
        default=None, ge=1, description="Tokens of one project's runs in a minute."
    )
    concurrent_runs: int | None = Field(
        default=None, ge=1, description="Runs of one project that are queued or worked on at once."
    )
    storage: int | None = Field(
        default=None, ge=1, description="Bytes of files that one project may have."
    )
    tokens_per_month: int | None = Field(
        default=None, ge=1, description="Tokens of one project's runs in a calendar month (UTC)."
    )
