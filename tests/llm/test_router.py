from pathlib import Path
from typing import Any

import pytest

from tests.llm.conversation import ask, text
from threadloom.config import Settings
from threadloom.errors import StartError
from threadloom.llm.chat import ModelDescription, ModelError
from threadloom.llm.router import EMBEDDED, LocalServer, Router, build_models, find_local_servers
from threadloom.testing import SequentialIds
from threadloom.testing.upstream import Answer, Upstream, json_answer


def router(**settings: Any) -> Router:
    return build_models(Settings.model_validate(settings), SequentialIds())


def provider(name: str, base_url: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "base_url": base_url} | fields


async def test_without_a_provider_the_embedded_model_answers_every_name() -> None:
    async with router(aliases={"a": "b"}) as models:
        route = models.resolve("gpt-4o")
        assert "demonstration" in await text(route.model, ask("Hi"))
        assert route.context_window == 128_000
        assert await models.available() == [EMBEDDED]
        assert EMBEDDED.owned_by == "threadloom"


@pytest.mark.parametrize(
    ("attribution", "embedded", "upstream"),
    [("embedded", False, True), ("always", False, False), ("never", True, True)],
)
async def test_a_setting_says_to_whose_answers_citations_are_added(
    attribution: str, embedded: bool, upstream: bool
) -> None:
    async with router(
        upstream={"base_url": "http://127.0.0.1:1/v1"},
        aliases={"demo": EMBEDDED.id},
        file_search={"attribution": attribution},
    ) as models:
        assert models.resolve("demo").cites is embedded
        assert models.resolve("gpt-4o").cites is upstream


async def test_names_pass_through_to_the_upstream(upstream: Upstream) -> None:
    async with router(
        upstream={"base_url": upstream.base_url}, models={"context_window": 999}
    ) as models:
        route = models.resolve("qwen3:14b")
        assert (route.name, route.context_window) == ("qwen3:14b", 999)
        assert await text(route.model, ask("[[text:Hello]]")) == "Hello"


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("gpt-4o", "exact"),
        ("gpt-4o-mini", "longer"),
        ("gpt-3.5", "shorter"),
        ("o3", "o3"),
        ("demo", EMBEDDED.id),
    ],
)
async def test_aliases_are_exact_first_then_the_most_specific(name: str, target: str) -> None:
    aliases = {
        "gpt-*": "shorter",
        "gpt-4o*": "longer",
        "gpt-4o": "exact",
        "demo": EMBEDDED.id,
        "exact": "not followed",
    }
    async with router(upstream={"base_url": "http://127.0.0.1:1/v1"}, aliases=aliases) as models:
        assert models.resolve(name).name == target


async def test_the_first_provider_that_has_the_name_answers(upstream: Upstream) -> None:
    async with Upstream() as second:
        few = {"small": {"context_window": 4096}, "big": {}}
        settings = {
            "providers": [
                provider("one", upstream.base_url, models=few),
                provider("two", second.base_url),
            ],
            "aliases": {"mini": "small"},
        }
        async with router(**settings) as models:
            assert models.resolve("mini").context_window == 4096
            await text(models.resolve("small").model, ask("Hi"))
            await text(models.resolve("other").model, ask("Hi"))
        assert (len(upstream.requests), len(second.requests)) == (1, 1)


async def test_an_unknown_name_is_refused_with_what_to_do() -> None:
    few = provider("one", "http://127.0.0.1:1/v1", models={"small": {}})
    async with router(providers=[few], aliases={"mini": "smal"}) as models:
        with pytest.raises(ModelError) as unknown:
            models.resolve("gpt-4o")
        with pytest.raises(ModelError) as misled:
            models.resolve("mini")
    assert unknown.value.message.startswith(
        "The model 'gpt-4o' does not exist. Configured are: small, mini."
    )
    assert "THREADLOOM_ALIASES" in unknown.value.message
    assert "Its alias leads to 'smal'" in misled.value.message


async def test_models_and_aliases_are_listed(upstream: Upstream) -> None:
    settings = {
        "providers": [provider("one", "http://127.0.0.1:1/v1", models={"small": {}})],
        "upstream": {"base_url": upstream.base_url},
        "aliases": {"mini": "small", "gpt-*": "small", "lost": "nowhere"},
    }
    async with router(**settings) as models:
        assert await models.available() == [
            ModelDescription("small", "one"),
            ModelDescription("scripted", "scripted", 1_700_000_000),
            ModelDescription("mini", "one", description="An alias of small."),
            ModelDescription("lost", "threadloom", description="An alias of nowhere."),
        ]


async def test_the_upstream_is_asked_once_a_minute(upstream: Upstream) -> None:
    async with router(upstream={"base_url": upstream.base_url}) as models:
        first = await models.available()
        upstream.models = ("changed",)
        assert await models.available() == first


@pytest.mark.parametrize("answer", [{"data": None}, {"data": [{"id": 5}]}, [], "x"])
async def test_a_strange_list_counts_as_none(answer: object) -> None:
    async with (
        StrangeUpstream(json_answer(answer)) as upstream,
        router(upstream={"base_url": upstream.base_url}) as models,
    ):
        assert await models.available() == []


async def test_an_upstream_that_is_away_is_listed_as_far_as_known() -> None:
    async with router(upstream={"base_url": "http://127.0.0.1:1/v1"}, aliases={"a": "b"}) as models:
        assert [model.id for model in await models.available()] == ["a"]


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ({"name": "x"}, "The provider x needs a base_url or a gguf."),
        ({"name": "x", "base_url": "127.0.0.1:1/v1"}, "must begin with http:// or https://"),
        ({"name": "x", "gguf": "/nowhere.gguf"}, "There is no GGUF file at /nowhere.gguf."),
    ],
)
def test_a_provider_that_cannot_work_stops_the_start(broken: dict[str, Any], sentence: str) -> None:
    with pytest.raises(StartError, match=sentence):
        router(providers=[broken])


async def test_a_gguf_file_is_listed_by_its_name(tmp_path: Path) -> None:
    gguf = tmp_path / "tiny.gguf"
    gguf.touch()
    async with router(providers=[{"name": "local", "gguf": gguf}]) as models:
        assert await models.available() == [ModelDescription("tiny", "local")]
        assert models.resolve("tiny").context_window == 8192


async def test_local_servers_are_found(upstream: Upstream) -> None:
    found = await find_local_servers([("Ollama", upstream.port), ("vLLM", 1)])
    assert found == [LocalServer("Ollama", upstream.base_url, "scripted")]


async def test_a_local_server_that_says_nothing_is_left_alone() -> None:
    async with StrangeUpstream(Answer(delay=30)) as upstream:
        assert await find_local_servers([("Ollama", upstream.port)]) == []


class StrangeUpstream(Upstream):
    """Answers everything with the same."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer

    def _choose(self, target: str, headers: dict[str, str], body: bytes) -> Answer:
        return self.answer
