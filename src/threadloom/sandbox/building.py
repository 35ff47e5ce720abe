"""Builds the sandbox's image from the recipe beside this file, and looks at what was built and what runs.

The engine's own builder does it: no registry and no command line of Docker's is needed. Everything here blocks.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from docker.errors import DockerException, ImageNotFound, NotFound

from threadloom.config import CodeInterpreter
from threadloom.errors import StartError
from threadloom.sandbox.engine import Client, address_of, connect
from threadloom.sandbox.recipe import LABEL, RECIPE, fingerprint, recipe_of

PATIENCE = 1800
"""Seconds that a step of the build may be silent: one step downloads all packages."""
LOOK_PATIENCE = 20


@dataclass(frozen=True)
class Seen:
    """The engine, and the image in it."""

    version: str
    runtime: str
    image: str | None
    """Its short id; None if there is none."""
    current: bool = False
    """It was built from this version's recipe."""


def build(
    settings: CodeInterpreter,
    *,
    base: str | None = None,
    network: str | None = None,
    cache: bool = True,
    recipe: Path = RECIPE,
) -> Iterator[str]:
    """Build `settings.image`; gives what the build says, line by line. Raises StartError.

    `base` takes the place of the recipe's Python image, and must be in the engine or a registry; `network` is the engine's
    for the step that downloads packages, such as `host`.
    """
    with connected(settings) as engine:
        said = engine.build(
            path=str(recipe),
            tag=settings.image,
            buildargs={"BASE": base} if base else {},
            labels={LABEL: fingerprint(recipe)},
            network_mode=network,
            nocache=not cache,
            rm=True,
            forcerm=True,
            decode=True,
        )
        yield from lines(cast(Iterator[Mapping[str, object]], said))


def lines(events: Iterable[Mapping[str, object]]) -> Iterator[str]:
    """A build's text in whole lines. Raises StartError where it says that it failed."""
    left = ""
    for event in events:
        if "error" in event:
            raise StartError(f"The sandbox's image could not be built: {event['error']}")
        *whole, left = (left + str(event.get("stream", ""))).split("\n")
        yield from filter(None, map(str.rstrip, whole))
    if left:
        yield left


def look(settings: CodeInterpreter, recipe: Path = RECIPE) -> Seen:
    """Raises StartError if the engine does not answer."""
    with connected(settings, LOOK_PATIENCE) as engine:
        info: Mapping[str, Any] = engine.info()
        version = str(info["ServerVersion"])
        runtime = settings.oci_runtime or str(info["DefaultRuntime"])
        try:
            image: Mapping[str, Any] = engine.inspect_image(settings.image)
        except ImageNotFound:
            return Seen(version, runtime, None)
        short = str(image["Id"]).removeprefix("sha256:")[:12]
        return Seen(version, runtime, short, recipe_of(image) == fingerprint(recipe))


def memory(settings: CodeInterpreter, containers: Iterable[str]) -> dict[str, int]:
    """The bytes that each uses now, but for those that do not run. Raises StartError."""
    used: dict[str, int] = {}
    with connected(settings) as engine:
        for container in containers:
            try:
                stats = engine.stats(container, stream=False, one_shot=True)
                used[container] = int(stats["memory_stats"]["usage"])
            except (NotFound, KeyError, ValueError):  # it ended meanwhile
                continue
    return used


@contextmanager
def connected(settings: CodeInterpreter, patience: int = PATIENCE) -> Generator[Client]:
    address = address_of(settings)
    try:
        client = connect(address, patience)
    except (DockerException, OSError):
        raise StartError(
            f"The container engine does not answer at {address}: is Docker running, and may this user use its socket?"
        ) from None
    try:
        yield client
    except (DockerException, OSError) as error:
        raise StartError(f"The container engine failed: {error}") from None
    finally:
        client.close()
