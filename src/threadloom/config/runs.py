"""The worker, and where code is run."""

from typing import Literal

from pydantic import Field, SecretStr

from threadloom.config.values import Duration, Section


class Runs(Section):
    """The worker."""

    expires_after: Duration = Field(default=600.0, description="A run's life from its creation.")
    concurrency: int = Field(
        default=64, ge=1, description="Runs that one worker process drives at once."
    )
    lease: Duration = Field(
        default=15.0, description="How long a run stays with a worker that gives no sign of life."
    )
    max_turns: int = Field(
        default=50,
        ge=1,
        description="Model turns with tool calls before a run is failed as a loop.",
    )
    keep_events: Duration = Field(
        default=7 * 86400.0, description="How long the events of ended runs can be replayed."
    )


class Runner(Section):
    """A process of its own that holds the sandboxes (`threadloom sandbox serve`), so that workers need no engine."""

    url: str | None = Field(
        default=None,
        pattern=r"^(unix:///|tcp://)",
        description="`unix:///run/threadloom/sandbox.sock` or `tcp://127.0.0.1:8485`; unset means that workers hold the sandboxes.",
    )
    token: SecretStr | None = Field(
        default=None, description="What both sides know; needed for `tcp://`."
    )


class CodeInterpreter(Section):
    """Where Python that models write is run."""

    runtime: Literal["docker", "bubblewrap", "none"] = Field(
        default="docker",
        description="`none` turns the tool off; `bubblewrap` is for development only, and refused for root.",
    )
    image: str = Field(
        default="threadloom-sandbox", description="Made by `threadloom sandbox build`."
    )
    docker_host: str | None = Field(
        default=None, description="Address of the engine; unset means the usual one."
    )
    oci_runtime: str | None = Field(
        default=None,
        description="The engine's runtime, `runsc` for gVisor; unset means its default.",
    )
    pool: int = Field(default=1, ge=0, description="Sandboxes kept ready for new threads.")
    max_sessions: int = Field(
        default=16, ge=1, description="Sandboxes in use at once; the one idle longest makes room."
    )
    memory: int = Field(
        default=1024**3,
        ge=256 * 1024**2,
        description="Bytes of memory of a sandbox, its files included.",
    )
    disk: int = Field(
        default=512 * 1024**2, ge=1024**2, description="Bytes of files that a sandbox may have."
    )
    cpus: float = Field(default=1.0, gt=0, description="Processors that a sandbox may use.")
    timeout: Duration = Field(default=120.0, description="How long one call may run.")
    idle: Duration = Field(default=1800.0, description="How long a sandbox outlives its last call.")
    life: Duration = Field(default=3600.0, description="How long a sandbox lives at most.")
    max_output: int = Field(
        default=64 * 1024, ge=256, description="Characters of output that one call may print."
    )
    max_pictures: int = Field(default=20, ge=0, description="Pictures that one call may show.")
    max_files: int = Field(
        default=100, ge=0, description="New and changed files that are kept of one call."
    )
    runner: Runner = Runner()
