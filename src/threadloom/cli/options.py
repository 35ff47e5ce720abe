"""What commands have in common: options, the settings they make, and how work is started."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer
import uvloop

from threadloom import faults
from threadloom.config import Settings, asked_fault, load_settings
from threadloom.errors import StartError

if TYPE_CHECKING:
    from threadloom.commands.projects import Scope
    from threadloom.db.tx import PageQuery

T = TypeVar("T")
DataDir = Annotated[Path | None, typer.Option(help="SQLite file, file bytes and caches.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="A YAML file of settings.")]
Limit = Annotated[int | None, typer.Option(min=0, help="0: as in the settings.")]
Project = Annotated[str, typer.Option(help="The project's name.")]
PageLimit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")]
After = Annotated[str | None, typer.Option(help="Go on after the object with this id.")]
ListOrder = Annotated[Literal["asc", "desc"], typer.Option("--order", help="asc: oldest first.")]


def settings_of(data_dir: Path | None, config: Path | None, **sections: dict[str, Any]) -> Settings:
    """The settings, with the flags that were given on top."""
    flags: dict[str, Any] = {} if data_dir is None else {"data_dir": data_dir}
    for name, section in sections.items():
        if given := {key: value for key, value in section.items() if value is not None}:
            flags[name] = given
    arm_fault()
    return load_settings(flags, config=config)


def scope_of(project: str, data_dir: Path | None, config: Path | None) -> "Scope":
    """A project's objects, for the commands that work on them."""
    from threadloom.commands.projects import Scope

    return Scope(settings_of(data_dir, config), project)


def query_of(limit: int, after: str | None, order: Literal["asc", "desc"]) -> "PageQuery":
    """Which page of a list."""
    from threadloom.db.tx import PageQuery

    return PageQuery(limit, order, after)


def arm_fault() -> None:
    """Only tests ask for one."""
    if fault := asked_fault():
        try:
            faults.arm(fault)
        except ValueError as error:
            raise StartError(f"THREADLOOM_FAULT: {error}.") from None


def start(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)
