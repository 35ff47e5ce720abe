"""The container engine, through Docker's SDK. Nothing that a user wrote ever reaches it. Everything here blocks."""

import os
import platform
import socket
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

import docker
import structlog
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import LogConfig, Ulimit
from docker.utils import kwargs_from_env

from threadloom.config import CodeInterpreter
from threadloom.sandbox.recipe import RECIPE, fingerprint, recipe_of
from threadloom.sandbox.session import DATA, SandboxUnavailable

log = structlog.stdlib.get_logger()

USUAL = "unix:///var/run/docker.sock"
LABEL = "threadloom.sandbox"
LIFE = "threadloom.life"
STARTED_BY = "threadloom.started-by"
USER = 10001
PROCESSES = 128
OPEN_FILES = 1024
SCRATCH = 64 * 1024**2
SHARED = 16 * 1024**2
ENTRIES = 20_000
"""Files and folders that either disk may have."""
TIMEOUT = 30
"""Seconds that one call may take."""
SETTLED = 60.0
"""Seconds after which a container that does not run is a leftover."""
MARGIN = 300.0
CONFLICT = 409

Client = Any
"""A docker.APIClient, whose methods have no types."""


@dataclass(frozen=True)
class Container:
    """A sandbox of any process on this engine."""

    id: str
    state: str
    created: float
    """Unix time."""
    life: float
    started_by: str

    def is_leftover(self, now: float) -> bool:
        """Nobody can still be using it: a spare lives one life at most, and one more once it is claimed."""
        most = 2 * self.life + MARGIN if self.state in {"running", "paused"} else SETTLED
        return now - self.created > most


class Engine:
    """Each method raises SandboxUnavailable, in words for people. Threads may share it."""

    def __init__(self, settings: CodeInterpreter) -> None:
        self._settings = settings
        self._address = address_of(settings)
        self._recipe = fingerprint(RECIPE)
        self._lock = threading.Lock()
        self._known: Client = None

    def check(self) -> None:
        """Whether it answers, and has the image and the runtime."""
        with self._explained():
            self._check_image()
            runtime = self._settings.oci_runtime
            if runtime and runtime not in self._client().info()["Runtimes"]:
                raise SandboxUnavailable(
                    f"The container engine at {self._address} has no runtime `{runtime}`."
                )

    def start(self) -> tuple[str, socket.socket]:
        """A container's id, and what is attached to its standard streams. Nothing is left of one that does not start."""
        with self._explained():
            self._check_image()
            container = self.create()
            try:
                attached = self._attach(container)
                try:
                    self._client().start(container)
                except BaseException:
                    attached.close()
                    raise
            except BaseException:
                self.remove(container)
                raise
            return container, attached

    def containers(self) -> Sequence[Container]:
        """All sandboxes, whoever started them."""
        with self._explained():
            filters = {"label": LABEL}
            return [seen(each) for each in self._client().containers(all=True, filters=filters)]

    def remove(self, container: str) -> None:
        """End it and all in it; it may be gone already."""
        with self._explained(), suppress(NotFound):
            try:
                self._client().remove_container(container, force=True, v=True)
            except APIError as error:
                if error.status_code != CONFLICT:  # it is being removed
                    raise

    def close(self) -> None:
        if self._known:
            self._known.close()

    def create(self) -> str:
        """A container that does not run yet."""
        settings = self._settings
        labels = {
            LABEL: "1",
            LIFE: str(settings.life),
            STARTED_BY: started_by(),
        }
        client = self._client()
        created = client.create_container(
            settings.image,
            hostname="sandbox",
            user=f"{USER}:{USER}",
            labels=labels,
            # Not detached: standard input is open for one attachment, whose end ends the driver.
            stdin_open=True,
            detach=False,
            # Docker's settings of this user may name a proxy, with a password.
            use_config_proxy=False,
            host_config=client.create_host_config(**limits(settings)),
        )
        return str(created["Id"])

    def _check_image(self) -> None:
        """It may have been built before an upgrade of this program, which may count on more protection within."""
        image = self._settings.image
        if recipe_of(self._client().inspect_image(image)) != self._recipe:
            raise SandboxUnavailable(
                f"The sandbox's image `{image}` is of another version: run `threadloom sandbox build`."
            )

    def _attach(self, container: str) -> socket.socket:
        """Before the start, so that nothing is missed."""
        params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        stream = self._client().attach_socket(container, params=params)
        # The SDK keeps it there, and no other way closes all of the connection.
        response: Client = stream._response  # noqa: SLF001
        try:
            if not isinstance(stream, socket.SocketIO):
                raise SandboxUnavailable(
                    f"Sandboxes need an engine at a `unix://` or `tcp://` address without TLS, not at {self._address}."
                )
            return socket.socket(fileno=os.dup(stream.fileno()))
        finally:
            response.close()

    def _client(self) -> Client:
        if self._known is None:
            # Not under the lock: where the engine hangs, threads would wait for each other.
            connected = connect(self._address, TIMEOUT)
            with self._lock:
                if self._known is None:
                    self._known = connected
            if self._known is not connected:
                connected.close()
        return self._known

    @contextmanager
    def _explained(self) -> Generator[None]:
        """What the engine says itself is for the operator."""
        image = self._settings.image
        try:
            yield
        except ImageNotFound:
            sentence = f"The sandbox's image `{image}` is missing: run `threadloom sandbox build`."
            raise SandboxUnavailable(sentence) from None
        except APIError as error:
            log.warning("container engine refused", reason=str(error.explanation))
            raise SandboxUnavailable("The container engine refused to start a sandbox.") from None
        except (DockerException, OSError) as error:
            log.debug("container engine does not answer", reason=str(error))
            raise SandboxUnavailable(
                f"The container engine does not answer at {self._address}: "
                "is Docker running, and may this user use its socket?"
            ) from None


def address_of(settings: CodeInterpreter) -> str:
    return settings.docker_host or str(kwargs_from_env().get("base_url") or USUAL)


def connect(address: str, timeout: int) -> Client:
    """Raises DockerException and OSError."""
    if address.startswith("unix://"):
        # Where nobody answers, the SDK would leave its socket open.
        with socket.socket(socket.AF_UNIX) as trial:
            trial.settimeout(timeout)
            trial.connect(address.removeprefix("unix://"))
    options: dict[str, Any] = {**kwargs_from_env(), "base_url": address}
    return docker.APIClient(**options, version="auto", timeout=timeout)


def started_by(process: int | None = None) -> str:
    """Names a process of this machine to people, this one unless told."""
    return f"{platform.node()} {process or os.getpid()}"


def limits(settings: CodeInterpreter) -> dict[str, Any]:
    """All that keeps the code in; the driver adds a filter of system calls to the engine's own."""
    own = f"uid={USER},gid={USER},mode=0700,nr_inodes={ENTRIES}"
    return {
        "network_mode": "none",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "pids_limit": PROCESSES,
        "mem_limit": settings.memory,
        "memswap_limit": settings.memory,
        "nano_cpus": int(settings.cpus * 1e9),
        "ipc_mode": "private",
        "shm_size": SHARED,
        "tmpfs": {
            "/tmp": f"rw,nosuid,nodev,size={SCRATCH},mode=1777,nr_inodes={ENTRIES}",  # noqa: S108 - the container's own
            DATA: f"rw,nosuid,nodev,noexec,size={settings.disk},{own}",
        },
        "ulimits": [
            Ulimit(name="nofile", soft=OPEN_FILES, hard=OPEN_FILES),
            Ulimit(name="core", soft=0, hard=0),
            Ulimit(name="fsize", soft=settings.disk, hard=settings.disk),
        ],
        # The default would write all output to the host's disk.
        "log_config": LogConfig(type="none"),
        "auto_remove": True,
        "init": False,
        **({"runtime": settings.oci_runtime} if settings.oci_runtime else {}),
    }


def seen(listed: Mapping[str, Any]) -> Container:
    labels = cast(Mapping[str, str], listed["Labels"])
    return Container(
        id=str(listed["Id"]),
        state=str(listed["State"]),
        created=float(listed["Created"]),
        life=float(labels.get(LIFE, 0)),
        started_by=labels.get(STARTED_BY, ""),
    )
