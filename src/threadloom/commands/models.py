"""`threadloom models`: who answers for a name, and whether it can do what assistants need."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from threadloom.config import Settings
from threadloom.errors import StartError
from threadloom.ids import RandomIds
from threadloom.llm.chat import ModelError, Route
from threadloom.llm.router import Router, build_models, is_pattern
from threadloom.llm.trial import Trial, attempt

ANY_OTHER = "*"
MOST = 5
"""Listed models that are tried without being named: a hosted provider has hundreds, and each trial costs tokens."""
PATIENCE = 90.0


@dataclass(frozen=True)
class Name:
    """Who answers for a name; `*` is any other. `model` is the name at the provider, None the one that was asked for."""

    name: str
    kind: Literal["model", "alias", "any other"]
    model: str | None
    provider: str | None
    context_window: int | None
    problem: str | None = None


@dataclass(frozen=True)
class Tried:
    """What a model does. Seconds are counted from the request; what is not known is None."""

    name: str
    model: str | None
    provider: str | None
    answers: bool
    streams: bool | None = None
    calls_functions: bool | None = None
    first_token_seconds: float | None = None
    seconds: float | None = None
    problem: str | None = None

    @property
    def works(self) -> bool:
        return self.answers and bool(self.streams) and bool(self.calls_functions)


async def names(settings: Settings) -> list[Name]:
    """Every name that is configured or listed by a provider, then patterns, then any other. Raises StartError."""
    async with build_models(settings, RandomIds()) as router:
        listed = [one.id for one in await router.available()]
        patterns = filter(is_pattern, settings.aliases)
        every = dict.fromkeys((*listed, *patterns, ANY_OTHER))
        found = [described(router, settings, name) for name in every]
        return [one for one in found if one.name != ANY_OTHER or not one.problem]


def described(router: Router, settings: Settings, name: str) -> Name:
    kind = "alias" if name in settings.aliases else "any other" if name == ANY_OTHER else "model"
    try:
        route = router.resolve(name)
    except ModelError as error:
        return Name(name, kind, settings.aliases.get(name), None, None, error.message)
    model = None if route.name == ANY_OTHER else route.name
    return Name(name, kind, model, route.provider, route.context_window)


async def test(settings: Settings, wanted: Sequence[str]) -> list[Tried]:
    """Try these models, or those that are configured, one after the other. Raises StartError."""
    async with build_models(settings, RandomIds()) as router:
        return [await tried(router, name) for name in wanted or await chosen(router, settings)]


async def chosen(router: Router, settings: Settings) -> list[str]:
    """The aliases and the models in the settings; else the few that are listed. Each that they lead to once."""
    configured = [name for provider in settings.providers for name in provider.models]
    every = [name for name in settings.aliases if not is_pattern(name)]
    every += [target for alias, target in settings.aliases.items() if is_pattern(alias)]
    every += configured
    if not every or router.is_embedded:
        every = [one.id for one in await router.available()]
        if len(every) > MOST:
            raise StartError(f"{len(every)} models are listed: name those to try.")
        if not every:
            raise StartError("No provider lists its models: name those to try.")
    leading = {led_to(router, name): name for name in reversed(every)}
    return list(reversed(leading.values()))


def led_to(router: Router, name: str) -> tuple[str, str]:
    """The provider and its model; the name itself where there is none."""
    try:
        route = router.resolve(name)
    except ModelError:
        return ("", name)
    return (route.provider, route.name)


async def tried(router: Router, name: str) -> Tried:
    try:
        route = router.resolve(name)
    except ModelError as error:
        return Tried(name, None, None, answers=False, problem=error.message)
    try:
        async with asyncio.timeout(PATIENCE):
            trial = await attempt(route)
    except TimeoutError:
        trial = Trial(problem=f"It does not answer within {PATIENCE:.0f} s.")
    return told(name, route, trial)


def told(name: str, route: Route, trial: Trial) -> Tried:
    if trial.problem is not None:
        return Tried(name, route.name, route.provider, answers=False, problem=trial.problem)
    return Tried(
        name,
        route.name,
        route.provider,
        answers=True,
        streams=trial.streams,
        calls_functions=trial.calls,
        first_token_seconds=round(trial.first, 3),
        seconds=round(trial.total, 3),
    )
