"""Who answers for a model's name, and how it is called."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from threadloom.config.values import Duration, Section

PictureMode = Literal["links", "inline", "never"]


class Upstream(Section):
    """The one default provider: any server that speaks Chat Completions."""

    base_url: str | None = Field(
        default=None,
        description="Its address, ending in `/v1`; unset means the embedded model answers.",
    )
    api_key: SecretStr | None = Field(default=None, description="Its key.")


class ModelSettings(Section):
    """What is known of one model of a provider."""

    context_window: int = Field(
        default=128_000, ge=256, description="Tokens that fit, prompt and answer."
    )


class Provider(Section):
    """One of several providers in `config.yaml`."""

    name: str = Field(description="Shown as `owned_by` in `GET /v1/models`.")
    base_url: str | None = Field(
        default=None, description="Chat Completions address, ending in `/v1`."
    )
    api_key: SecretStr | None = Field(default=None, description="Its key.")
    gguf: Path | None = Field(
        default=None,
        description="A GGUF file run in the process (`threadloom[local]`), instead of `base_url`.",
    )
    models: dict[str, ModelSettings] = Field(
        default_factory=dict[str, ModelSettings],
        description="Names this provider answers; empty means all.",
    )


class ModelCalls(Section):
    """How models are called."""

    connect_timeout: Duration = Field(default=5.0, description="To open a connection.")
    first_token_timeout: Duration = Field(
        default=120.0, description="From the request to the first byte."
    )
    idle_timeout: Duration = Field(default=60.0, description="Between two pieces of an answer.")
    retries: int = Field(
        default=2,
        ge=0,
        le=10,
        description="Further tries after 408, 409, 429, 5xx or a lost connection.",
    )
    context_window: int = Field(
        default=128_000,
        ge=256,
        description="Tokens that fit, for models of which nothing else is known.",
    )
    pictures: PictureMode = Field(
        default="links",
        description="How `image_url` parts reach models: as `links` that the provider fetches, `inline` as bytes that this server fetches "
        "(see `THREADLOOM_OUTBOUND`), or `never`. `image_file` parts go as bytes, unless `never`.",
    )
    max_pictures: int = Field(
        default=20, ge=1, description="Pictures that one request carries; the newest are kept."
    )
    max_picture_bytes: int = Field(
        default=20 * 1024 * 1024, ge=1, description="Bytes of pictures that one request carries."
    )
