"""Which provider answers for a model's name."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Self

import httpx2
import structlog
from pydantic import BaseModel

from threadloom.config import Attribution, ModelCalls, Provider, Settings
from threadloom.errors import StartError
from threadloom.ids import Ids
from threadloom.llm.chat import ChatModel, ModelDescription, ModelError, Route
from threadloom.llm.chat_completions import ChatCompletions, Endpoint
from threadloom.llm.embedded import EmbeddedModel
from threadloom.llm.failures import unknown_model
from threadloom.llm.local import CONTEXT_WINDOW, LocalModel
from threadloom.telemetry import metrics

log = structlog.stdlib.get_logger()

EMBEDDED = ModelDescription(
    id="threadloom-embedded",
    owned_by="threadloom",
    description="A built-in demonstration: it quotes what it received and does not reason.",
)
EMBEDDED_CONTEXT_WINDOW = 128_000
LIST_TIMEOUT = 3.0
LIST_FRESH = 60.0
PROBE_TIMEOUT = 0.2
KEEPALIVE = 30.0
LOCAL_SERVERS = (("Ollama", 11434), ("vLLM", 8000), ("llama.cpp", 8080), ("LM Studio", 1234))

Listing = Callable[[], Awaitable[list[ModelDescription]]]


@dataclass
class Source:
    """A provider as the router sees it: `context_windows` has the names it answers, none means all."""

    name: str
    model: ChatModel
    listing: Listing | None = None
    context_windows: Mapping[str, int] = field(default_factory=dict[str, int])
    sees: bool = True

    def answers(self, name: str) -> bool:
        return not self.context_windows or name in self.context_windows

    async def available(self) -> list[ModelDescription]:
        if self.context_windows:
            return [ModelDescription(name, self.name) for name in self.context_windows]
        return await self.listing() if self.listing else []


class Router:
    """Aliases first, then the providers in their order; the embedded model when there is none."""

    def __init__(
        self,
        sources: Iterable[Source],
        *,
        aliases: Mapping[str, str],
        embedded: ChatModel,
        client: httpx2.AsyncClient,
        context_window: int,
        attribution: Attribution = "never",
    ) -> None:
        self._sources = tuple(sources)
        self._aliases = aliases
        self._patterns = sorted(filter(is_pattern, aliases), key=specificity, reverse=True)
        self._embedded = Route(
            embedded,
            EMBEDDED.id,
            EMBEDDED_CONTEXT_WINDOW,
            cites=attribution == "never",
            sees=False,
            provider="threadloom",
            label=EMBEDDED.id,
        )
        self._cites = attribution != "always"
        self._client = client
        self._context_window = context_window
        configured = (source.context_windows for source in self._sources)
        self._labels = frozenset(aliases.values()).union(*configured)
        """The models that metrics name; clients may ask for any other."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections to all providers."""
        await self._client.aclose()

    @property
    def is_embedded(self) -> bool:
        """No provider is configured: the built-in demonstration answers every name."""
        return not self._sources

    def resolve(self, name: str) -> Route:
        if self.is_embedded:
            return self._embedded
        target = self._alias(name)
        if target == EMBEDDED.id:
            return self._embedded
        for source in self._sources:
            if source.answers(target):
                window = source.context_windows.get(target, self._context_window)
                label = target if target in self._labels else metrics.OTHER
                return Route(
                    source.model, target, window, self._cites, source.sees, source.name, label
                )
        raise self._unknown(name, target)

    async def available(self) -> list[ModelDescription]:
        if self.is_embedded:
            return [EMBEDDED]
        lists = await asyncio.gather(*(source.available() for source in self._sources))
        models = {model.id: model for models in reversed(lists) for model in reversed(models)}
        listed = dict(reversed(models.items()))
        for alias, target in self._aliases.items():
            if not is_pattern(alias):
                owner = models[target].owned_by if target in models else "threadloom"
                described = ModelDescription(alias, owner, description=f"An alias of {target}.")
                listed[alias] = described
        return list(listed.values())

    def _alias(self, name: str) -> str:
        if name in self._aliases:
            return self._aliases[name]
        matching = (pattern for pattern in self._patterns if fnmatchcase(name, pattern))
        pattern = next(matching, None)
        return name if pattern is None else self._aliases[pattern]

    def _unknown(self, name: str, target: str) -> ModelError:
        alias = "" if name == target else f"Its alias leads to '{target}', which no provider has. "
        known = sorted({model for source in self._sources for model in source.context_windows})
        names = ", ".join([*known, *(alias for alias in self._aliases if alias != name)])
        return unknown_model(name, f"{alias}Configured are: {names}.")


class UpstreamListing:
    """What `GET /models` of a provider says, asked for at most once a minute."""

    def __init__(self, client: httpx2.AsyncClient, endpoint: Endpoint) -> None:
        self._client = client
        self._endpoint = endpoint
        self._lock = asyncio.Lock()
        self._asked: float | None = None
        self._known: list[ModelDescription] = []

    async def __call__(self) -> list[ModelDescription]:
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if self._asked is None or now - self._asked > LIST_FRESH:
                await self._ask()
                self._asked = now
        return self._known

    async def _ask(self) -> None:
        try:
            self._known = await list_models(self._client, self._endpoint, LIST_TIMEOUT)
        except (httpx2.HTTPError, ValueError, TimeoutError) as error:
            log.warning(
                "models not listed", provider=self._endpoint.name, reason=type(error).__name__
            )


class ListedModel(BaseModel):
    """What is read of a model that a provider lists."""

    id: str
    owned_by: str | None = None
    created: int | None = None


class ListedModels(BaseModel):
    """A provider's list; Ollama without models says `null`."""

    data: list[ListedModel] | None


@dataclass(frozen=True)
class LocalServer:
    """A model server that was found on this machine."""

    name: str
    base_url: str
    model: str | None


async def find_local_servers(
    candidates: Iterable[tuple[str, int]] = LOCAL_SERVERS,
) -> list[LocalServer]:
    """Look for well-known model servers on loopback; all at once, for a fifth of a second."""
    # An empty TLS context: nothing here is encrypted, and loading certificates takes longer than the probes.
    verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    async with httpx2.AsyncClient(trust_env=False, verify=verify) as client:
        found = await asyncio.gather(*(probe(client, name, port) for name, port in candidates))
    return [server for server in found if server is not None]


async def probe(client: httpx2.AsyncClient, name: str, port: int) -> LocalServer | None:
    endpoint = Endpoint(name, f"http://127.0.0.1:{port}/v1")
    try:
        models = await list_models(client, endpoint, PROBE_TIMEOUT)
    except (httpx2.HTTPError, ValueError, TimeoutError):
        return None
    return LocalServer(name, endpoint.base_url, models[0].id if models else None)


async def list_models(
    client: httpx2.AsyncClient, endpoint: Endpoint, seconds: float
) -> list[ModelDescription]:
    """`GET /models` of a provider. Raises HTTPError, TimeoutError, or ValueError for another shape."""
    url = endpoint.base_url.rstrip("/") + "/models"
    async with asyncio.timeout(seconds):
        response = await client.get(url, headers=endpoint.headers(), timeout=seconds)
    response.raise_for_status()
    return [
        ModelDescription(model.id, model.owned_by or endpoint.name, model.created or 0)
        for model in ListedModels.model_validate_json(response.content).data or []
    ]


def is_pattern(alias: str) -> bool:
    return "*" in alias


def specificity(pattern: str) -> int:
    """More literal characters win."""
    return len(pattern.replace("*", ""))


def build_models(settings: Settings, ids: Ids) -> Router:
    """All models of the settings, behind one client. Raises StartError. Close the router at the end."""
    client = httpx2.AsyncClient(
        limits=httpx2.Limits(
            max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEPALIVE
        )
    )
    calls = settings.models
    sources = [source_of(provider, client, calls, ids) for provider in settings.providers]
    if settings.upstream.base_url is not None:
        key = settings.upstream.api_key
        endpoint = Endpoint(
            "upstream", settings.upstream.base_url, key.get_secret_value() if key else None
        )
        sources.append(remote(endpoint, client, calls, ids))
    return Router(
        sources,
        aliases=settings.aliases,
        embedded=EmbeddedModel(ids),
        client=client,
        context_window=calls.context_window,
        attribution=settings.file_search.attribution,
    )


def source_of(
    provider: Provider, client: httpx2.AsyncClient, calls: ModelCalls, ids: Ids
) -> Source:
    if provider.gguf is not None:
        return local(provider, provider.gguf, calls, ids)
    if provider.base_url is None:
        raise StartError(f"The provider {provider.name} needs a base_url or a gguf.")
    endpoint = Endpoint(
        provider.name,
        provider.base_url,
        provider.api_key.get_secret_value() if provider.api_key else None,
        key_setting=f"the api_key of the provider {provider.name} in config.yaml",
        url_setting=f"the base_url of the provider {provider.name} in config.yaml",
    )
    windows = {name: model.context_window for name, model in provider.models.items()}
    return remote(endpoint, client, calls, ids, windows)


def remote(
    endpoint: Endpoint,
    client: httpx2.AsyncClient,
    calls: ModelCalls,
    ids: Ids,
    windows: Mapping[str, int] | None = None,
) -> Source:
    if not endpoint.base_url.startswith(("http://", "https://")):
        raise StartError(f"{endpoint.url_setting} must begin with http:// or https://.")
    model = ChatCompletions(client, endpoint, calls=calls, ids=ids)
    return Source(endpoint.name, model, UpstreamListing(client, endpoint), windows or {})


def local(provider: Provider, gguf: Path, calls: ModelCalls, ids: Ids) -> Source:
    """Its context is memory of this process: unset means a modest one, not the setting for all models."""
    windows = {
        name: model.context_window if "context_window" in model.model_fields_set else CONTEXT_WINDOW
        for name, model in provider.models.items()
    } or {gguf.stem: CONTEXT_WINDOW}
    model = LocalModel(gguf, calls=calls, context_window=max(windows.values()), ids=ids)
    return Source(provider.name, model, context_windows=windows, sees=False)
