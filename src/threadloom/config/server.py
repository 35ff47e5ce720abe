"""The HTTP side: who may call, and how much."""

from pydantic import Field, SecretStr

from threadloom.config.values import Duration, Section


class Auth(Section):
    """Who may call."""

    admin_key: SecretStr | None = Field(
        default=None,
        description="A key for the default project; when set, no key is generated or printed.",
    )


class Compat(Section):
    """Where the hosted service was stricter than its clients."""

    strict_beta_header: bool = Field(
        default=False,
        description="Refuse requests without `OpenAI-Beta: assistants=v2`, as OpenAI did.",
    )


class Server(Section):
    """The HTTP side."""

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8484, ge=0, le=65535, description="Port to listen on.")
    max_body: int = Field(
        default=32 * 1024 * 1024,
        ge=1024,
        description="Largest JSON body in bytes; a larger one is a 413.",
    )
    poll_after: Duration = Field(
        default=0.5,
        description="The polling interval recommended to SDKs (`openai-poll-after-ms`).",
    )
    max_requests: int = Field(
        default=512,
        ge=1,
        description="Requests that one process works on at once, open streams aside; more are refused with 503.",
    )
    max_connections: int = Field(
        default=4096,
        ge=1,
        description="Open connections of one process; requests on further ones are refused with 503.",
    )
    max_queued_runs: int = Field(
        default=1000,
        ge=1,
        description="Runs of all projects that wait for a worker; while there are more, new ones are refused with 503.",
    )
