"""The models that answer, and the one that embeds."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from threadloom.commands.doctor.findings import Finding, green, red
from threadloom.commands.doctor.records import Embedded
from threadloom.config import Settings, Upstream
from threadloom.errors import StartError
from threadloom.ids import RandomIds
from threadloom.llm.chat import ModelError, Route
from threadloom.llm.router import Router, build_models, is_pattern
from threadloom.llm.trial import attempt
from threadloom.retrieval.embedder import EmbeddingError
from threadloom.retrieval.embedders import open_embedder

MOST = 5
"""Models of one provider: a hosted one has hundreds, and each trial costs tokens."""
ANY = "gpt-4o"
"""Asked for where none is listed or named: the refusal says why."""
TRIAL = 90.0
FIRST_TOKEN = 60.0
QUESTION = "Does the embedding model answer?"
ADDRESS = "Check the address (it ends in /v1) and the key in THREADLOOM_UPSTREAM__BASE_URL and __API_KEY, or in `providers`."
STREAM = "Let the server stream Chat Completions (`stream: true`), and turn off buffering in what stands before it."
CALL = "Use a model that calls functions and switch it on in its server (vLLM: `--enable-auto-tool-choice --tool-call-parser`); assistants' tools need it."
EMBED = "Check THREADLOOM_EMBEDDINGS__BASE_URL, __API_KEY and __MODEL."
REINDEX = "Run `threadloom reindex`; until then their passages are found by words only."
DIMENSIONS = "Set THREADLOOM_EMBEDDINGS__DIMENSIONS back to what it was, or remove these files from their vector stores and attach them anew."


async def check_models(settings: Settings, used: Sequence[str]) -> AsyncIterator[Finding]:
    """Each provider, as it answers; `used` are the names that assistants have."""
    calls = settings.models.model_copy(
        update={
            "retries": 0,
            "first_token_timeout": min(settings.models.first_token_timeout, FIRST_TOKEN),
        }
    )
    careful = settings.model_copy(update={"models": calls})
    try:
        async with build_models(careful, RandomIds()) as every:
            wanted = [
                target if is_pattern(name) else name for name, target in settings.aliases.items()
            ]
            routes = [one for name in [*wanted, *used] if (one := resolved(every, name))]
        targets = [one.name for one in routes]
        listed: dict[str, Sequence[str]] = {}
        for name, one in alone(careful):
            listed[name] = await listed_by(one)
            async for finding in check_provider(name, one, listed[name], targets):
                yield finding
        async for finding in check_names(careful, used, listed):
            yield finding
    except StartError as error:
        yield red("models", str(error), ADDRESS)


def alone(settings: Settings) -> list[tuple[str, Settings]]:
    """The settings with each provider as the only one; the embedded model where there is none."""
    nobody: dict[str, object] = {"providers": (), "upstream": Upstream(), "aliases": {}}
    each: list[tuple[str, dict[str, object]]] = [
        (one.name, nobody | {"providers": (one,)}) for one in settings.providers
    ]
    if settings.upstream.base_url is not None:
        each.append(("upstream", nobody | {"upstream": settings.upstream}))
    return [
        (name, settings.model_copy(update=changes))
        for name, changes in each or [("embedded", nobody)]
    ]


async def listed_by(settings: Settings) -> Sequence[str]:
    """What the only provider of these settings says that it has; empty if it does not say."""
    async with build_models(settings, RandomIds()) as models:
        return [one.id for one in await models.available()]


async def check_provider(
    name: str, settings: Settings, listed: Sequence[str], targets: Sequence[str]
) -> AsyncIterator[Finding]:
    """The models that are named in the settings and by assistants, or else the first that it lists."""
    async with build_models(settings, RandomIds()) as models:
        if models.is_embedded or (settings.providers and settings.providers[0].models):
            chosen = listed
        else:
            chosen = [one for one in dict.fromkeys(targets) if not listed or one in listed]
            chosen = chosen or [one for one in listed if "embed" not in one.lower()][:1] or [ANY]
        for one in chosen[:MOST]:
            if route := resolved(models, one):
                yield await check_model(f"model {name}/{one}", route)


async def check_names(
    settings: Settings, used: Sequence[str], listed: Mapping[str, Sequence[str]]
) -> AsyncIterator[Finding]:
    """Aliases, and names that assistants have, that lead to no model. `listed` is by provider."""
    exact = [name for name in settings.aliases if not is_pattern(name)]
    async with build_models(settings, RandomIds()) as models:
        if models.is_embedded:
            return
        for name in dict.fromkeys([*exact, *used]):
            whose = "assistants name it" if name in used else "it is an alias"
            mend = f'Lead it to one that there is: THREADLOOM_ALIASES={{"{name}": "<a model>"}}.'
            route = resolved(models, name)
            if route is None:
                yield red(f"model {name}", f"{whose}, and no provider has it", mend)
                continue
            known = listed.get(route.provider)
            if not known or route.name in known:
                continue
            # Some take more names than they list: `llama3` is `llama3:latest`.
            finding = await check_model(f"model {name}", route)
            if finding.mend == ADDRESS:
                says = f"{whose}, and {route.provider} does not list {route.name}: {finding.says}"
                finding = red(finding.check, says, mend)
            yield finding


def resolved(models: Router, name: str) -> Route | None:
    try:
        return models.resolve(name)
    except ModelError:
        return None


async def check_model(check: str, route: Route) -> Finding:
    try:
        async with asyncio.timeout(TRIAL):
            trial = await attempt(route)
    except TimeoutError:
        return red(check, f"does not answer within {TRIAL:.0f} s", ADDRESS)
    if trial.problem is not None:
        return red(check, trial.problem, ADDRESS)
    if not trial.streams:
        return red(check, "answers all at once: it does not stream", STREAM)
    if not trial.calls:
        return red(check, "answers and streams, but calls no function", CALL)
    return green(check, f"answers after {trial.first:.2f} s, streams, and calls a function")


async def check_embeddings(settings: Settings, stored: Sequence[Embedded]) -> Sequence[Finding]:
    """It answers, and what is stored was made by it."""
    embedder = open_embedder(settings)
    try:
        vector = await embedder.embed_query(QUESTION)
    except EmbeddingError as error:
        return [red("embeddings", error.message, EMBED)]
    finally:
        await embedder.close()
    says = f"{embedder.model} answers with {len(vector)} dimensions"
    other = sum(one.files for one in stored if one.model != embedder.model)
    changed = [
        one for one in stored if one.model == embedder.model and one.dimensions != len(vector)
    ]
    if other:
        return [
            red("embeddings", f"{says}, but {other} files were embedded by another model", REINDEX)
        ]
    if changed:
        files, dimensions = sum(one.files for one in changed), changed[0].dimensions
        return [red("embeddings", f"{says}, but {files} files have {dimensions}", DIMENSIONS)]
    return [green("embeddings", says)]
