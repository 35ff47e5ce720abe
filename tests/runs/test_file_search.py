"""Runs that search files: what the model hears, what the client sees, and how answers cite."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from openai import AsyncOpenAI
from sqlalchemy import update

from tests.runs.driver import FUNCTION, Api, Json, Talk, assert_transcript, parsed_all, text_of
from tests.runs.workers import DyingDatabase, doomed
from tests.support.server import Running, running_server
from threadloom.db.rows import AssistantRow, VectorStoreFileRow, VectorStoreRow
from threadloom.db.tx import Tx
from threadloom.errors import NotFound
from threadloom.llm.chat import (
    AssistantMessage,
    ChatEvent,
    ChatRequest,
    Finished,
    NamedTool,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallOpened,
    ToolMessage,
)
from threadloom.retrieval.embedder import EmbeddingError
from threadloom.retrieval.search import Hit
from threadloom.runs.file_search import (
    LONGEST_QUERY,
    NO_QUERY,
    NOTHING_FOUND,
    NOTHING_TO_SEARCH,
    FileSearch,
    queries_of,
    within,
)
from threadloom.testing import (
    FrozenClock,
    ScriptedModel,
    ScriptedModels,
    ScriptedSearch,
    SequentialIds,
    passage,
)
from threadloom.testing.model import USAGE
from threadloom.tokens import O200K_TOKENS
from threadloom.types.vector_stores import StaticChunking

SEARCH: Json = {"type": "file_search"}
CONTENT = "step_details.tool_calls[*].file_search.results[*].content"
QUESTION = ("file_search", '{"queries":["How long is the warranty?"]}')
WARRANTY = passage(
    "The warranty lasts 24 months.", page=3, heading="Warranty", attributes={"year": 2024}
)
SHIPPING = passage("Shipping is free.", filename="b[1].txt", file_id="file-2", score=0.25)


async def with_store(api: Api, *texts: str, thread_store: bool = False, **assistant: Any) -> Talk:
    """A talk whose assistant (or thread) has a vector store."""
    store = await api.post("/vector_stores", {"name": "Documents"})
    resources: Json = {"file_search": {"vector_store_ids": [store["id"]]}}
    options: Json = {"tools": [SEARCH]} | assistant
    if not thread_store:
        return await api.talk(*texts, tool_resources=resources, **options)
    talk = await api.talk(*texts, **options)
    await api.post(talk.path, {"tool_resources": resources})
    return talk


def deltas_of(text: str) -> list[Json]:
    """The content entries of a stream's message deltas."""
    return [
        event.json["delta"]["content"][0]
        for event in parsed_all(text)
        if event.name == "thread.message.delta"
    ]


def assert_cited(message: Json) -> list[Json]:
    """Every annotation of the message points at its marker; answers with them."""
    annotations = [
        annotation
        for part in message["content"]
        if part["type"] == "text"
        for annotation in part["text"]["annotations"]
        if part["text"]["value"][annotation["start_index"] : annotation["end_index"]]
        == annotation["text"]
    ]
    text = text_of(message)
    assert text.count("†") == len(annotations)
    return annotations


# The stream


async def test_a_search_and_its_citations_are_streamed(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    model.calls(QUESTION)
    model.says("Two years \U0001f600 【0", ":0†a.t", "xt】 and free【0:1†b(1).txt】.")
    search.finds(WARRANTY, SHIPPING)
    talk = await with_store(api, "How long is the warranty?")
    text = await talk.transcript()
    assert_transcript("file_search", text)
    message = (await talk.messages())[-1]
    assert [one["file_citation"] for one in assert_cited(message)] == [
        {"file_id": "file-1", "page": 3},
        {"file_id": "file-2"},
    ]
    assert text_of(message) == "".join(delta["text"]["value"] for delta in deltas_of(text))


async def test_a_stream_has_the_passages_for_those_who_ask(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    model.calls(QUESTION)
    model.says("Two years.")
    search.finds(WARRANTY)
    talk = await with_store(api)
    body: Json = {"assistant_id": talk.assistant, "stream": True}
    params = {"include[]": CONTENT}
    async with api.stream("POST", f"{talk.path}/runs", body, params=params) as stream:
        assert_transcript("file_search_included", await stream.rest())


async def test_passages_are_kept_and_sent_on_demand(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    model.calls(QUESTION, ("weather", "{}"))
    model.says("Two years.")
    search.finds(WARRANTY)
    talk = await with_store(api, tools=[SEARCH, FUNCTION])
    run = await talk.ask()
    path = f"{talk.run_path(run)}/steps"
    (step,) = await talk.steps(run)
    (plain, _) = step["step_details"]["tool_calls"]
    result = {
        "file_id": "file-1",
        "file_name": "a.txt",
        "score": 0.5,
        "attributes": {"year": 2024},
        "page": 3,
    }
    assert plain["file_search"] == {
        "ranking_options": {"ranker": "default_2024_08_21", "score_threshold": 0.0},
        "results": [result],
    }
    whole = result | {"content": [{"type": "text", "text": "The warranty lasts 24 months."}]}
    included = f"?include[]={CONTENT}"
    for found in (
        (await api.get(f"{path}{included}"))["data"][0],
        await api.get(f"{path}/{step['id']}{included}"),
    ):
        assert found["step_details"]["tool_calls"][0]["file_search"]["results"] == [whole]
    assert await api.get(f"{path}/{step['id']}") == step
    body = {"tool_outputs": [{"tool_call_id": pending_call(run), "output": ""}], "stream": True}
    submit = f"{talk.run_path(run)}/submit_tool_outputs{included}"
    async with api.stream("POST", submit, body) as stream:
        assert '"content":[{"type":"text","text":"The warranty' in await stream.rest()
    assert '"content":[{"type":"text","text":"The warranty' not in await talk.events(run)


def pending_call(run: Json) -> str:
    return run["required_action"]["submit_tool_outputs"]["tool_calls"][0]["id"]


# What the model sees and hears


async def test_the_model_is_offered_one_function(api: Api, model: ScriptedModel) -> None:
    model.says("Hello")
    talk = await api.talk(tools=[SEARCH])
    await talk.ask()
    (function,) = model.requests[0].tools
    assert function.name == "file_search"
    assert list((function.parameters or {})["properties"]) == ["queries"]


async def test_the_model_hears_passages_with_their_markers(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    model.calls(QUESTION)
    model.says("Two years.")
    search.finds(WARRANTY, SHIPPING)
    talk = await with_store(api)
    await talk.ask()
    assert heard(model).partition("\n\n")[2] == (
        '<passage marker="【0:0†a.txt】" page="3" heading="Warranty">\n'
        "The warranty lasts 24 months.\n</passage>\n\n"
        '<passage marker="【0:1†b(1).txt】">\nShipping is free.\n</passage>'
    )


def heard(model: ScriptedModel) -> str:
    """What the model was told last of a call."""
    message = model.requests[-1].messages[-1]
    assert isinstance(message, ToolMessage)
    return message.text


async def test_the_model_is_told_plainly_when_nothing_is_found(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    model.calls(QUESTION)
    model.says("I do not know.")
    talk = await with_store(api)
    await talk.ask()
    assert heard(model) == NOTHING_FOUND
    assert len(search.requests) == 1


async def test_without_a_store_nothing_is_searched(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    model.calls(QUESTION)
    model.says("I do not know.")
    talk = await api.talk(tools=[SEARCH])
    await talk.ask()
    assert heard(model) == NOTHING_TO_SEARCH
    assert not search.requests


async def test_a_call_without_a_query_is_told_so(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    model.calls(("file_search", '{"queries":[" "]}'))
    model.says("Oh.")
    talk = await with_store(api)
    assert (await talk.ask())["status"] == "completed"
    assert heard(model) == NO_QUERY
    assert not search.requests


@pytest.mark.parametrize(
    ("arguments", "queries"),
    [
        ('{"queries":["a","b"]}', ["a", "b"]),
        ('{"queries":"a"}', ["a"]),
        ('{"query":"a"}', ["a"]),
        ('{"queries":["a",null,7,{"x":"y"}," a "],"limit":3}', ["a"]),
        ('["a","b"]', ["a", "b"]),
        ('"a"', ["a"]),
        ('{"queries":["a"', ['{"queries":["a"']),
        ("How long?", ["How long?"]),
        ("", []),
        ("{}", []),
        ("null", []),
        ('{"queries":["1","2","3","4","5","6","7"]}', ["1", "2", "3", "4", "5"]),
    ],
)
def test_queries_are_read_from_whatever_the_model_wrote(arguments: str, queries: list[str]) -> None:
    assert queries_of(arguments) == queries


@given(st.text())
def test_no_arguments_break_a_run(arguments: str) -> None:
    assert all(queries_of(arguments))
    assert queries_of("x" * 2 * LONGEST_QUERY) == ["x" * LONGEST_QUERY]


async def test_the_file_search_of_a_choice_is_called(api: Api, model: ScriptedModel) -> None:
    model.calls(QUESTION)
    model.says("Two years.")
    talk = await with_store(api)
    await talk.ask(tool_choice={"type": "file_search"})
    assert [request.tool_choice for request in model.requests] == [NamedTool("file_search"), "auto"]


# What is searched


async def test_the_stores_of_the_assistant_and_of_the_thread_are_searched(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    model.calls(QUESTION)
    model.says("Two years.")
    talk = await with_store(api)
    own = await api.post("/vector_stores", {})
    await api.post(
        talk.path, {"tool_resources": {"file_search": {"vector_store_ids": [own["id"]]}}}
    )
    await talk.ask()
    assistant = await api.get(f"/assistants/{talk.assistant}")
    (request,) = search.requests
    assert request.store_ids == [
        *assistant["tool_resources"]["file_search"]["vector_store_ids"],
        own["id"],
    ]
    assert request.queries == ["How long is the warranty?"]
    assert (request.limit, request.score_threshold, request.weight) == (20, 0.0, None)


async def test_resources_given_with_a_new_thread_replace_those_of_the_assistant(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    model.calls(QUESTION)
    model.says("Two years.")
    talk = await with_store(api)
    other = await api.post("/vector_stores", {})
    body: Json = {
        "assistant_id": talk.assistant,
        "thread": {"messages": [{"role": "user", "content": "Hi"}]},
        "tool_resources": {"file_search": {"vector_store_ids": [other["id"]]}},
        "stream": True,
    }
    async with api.stream("POST", "/threads/runs", body) as stream:
        await stream.rest()
    assert search.requests[0].store_ids == [other["id"]]


async def test_a_store_that_both_have_is_searched_once(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    model.calls(QUESTION)
    model.says("Two years.")
    talk = await with_store(api)
    resources = (await api.get(f"/assistants/{talk.assistant}"))["tool_resources"]
    await api.post(talk.path, {"tool_resources": resources})
    await talk.ask()
    assert len(search.requests[0].store_ids) == 1


async def test_options_of_the_tool_are_honoured(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    model.calls(QUESTION)
    model.says("Two years.")
    ranking = {
        "score_threshold": 0.4,
        "hybrid_search": {"embedding_weight": 1, "text_weight": 3},
    }
    tool = SEARCH | {"file_search": {"max_num_results": 1, "ranking_options": ranking}}
    search.finds(WARRANTY, SHIPPING)
    talk = await with_store(api, tools=[tool])
    text = await talk.transcript()
    (request,) = search.requests
    assert (request.limit, request.score_threshold, request.weight) == (1, 0.4, 0.25)
    assert text.count('"score_threshold":0.4},"results":[') == 2


async def test_weights_that_are_nothing_leave_the_default(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    model.calls(QUESTION)
    model.says("Two years.")
    ranking = {
        "score_threshold": 0.0,
        "hybrid_search": {"embedding_weight": 0, "text_weight": 0},
    }
    talk = await with_store(api, tools=[SEARCH | {"file_search": {"ranking_options": ranking}}])
    await talk.ask()
    assert search.requests[0].weight is None


async def test_a_small_model_gets_a_quarter(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    model.calls(QUESTION)
    model.says("Two years.")
    search.finds(*[passage("word " * 1_500)] * 5)
    talk = await with_store(api, model="gpt-3.5-turbo")
    await talk.ask()
    assert search.requests[0].limit == 5
    assert 3_990 <= heard(model).count("word") <= 4_000


async def test_a_models_context_bounds_what_it_hears(
    api: Api, model: ScriptedModel, models: ScriptedModels, search: ScriptedSearch
) -> None:
    models.context_window = 4_000
    model.calls(QUESTION, QUESTION)
    model.says("Two years.")
    search.finds(*[passage("word " * 500)] * 20)
    search.finds(passage("word " * 3_000))
    talk = await with_store(api)
    await talk.ask()
    first, second = model.requests[-1].messages[-2:]
    assert isinstance(first, ToolMessage)
    assert isinstance(second, ToolMessage)
    # 3,000 of 4,000 are left for the prompt, and both searches share them.
    assert 600 <= first.text.count("word") <= 750
    assert 1_400 <= second.text.count("word") <= 1_500


@hypothesis_settings(deadline=None)  # the first count reads a vocabulary
@given(st.lists(st.text(min_size=1, max_size=60), max_size=5), st.integers(1, 60))
def test_passages_are_cut_to_the_budget(texts: list[str], budget: int) -> None:
    kept = within(budget, "gpt-4o", [passage(text) for text in texts])
    assert sum(O200K_TOKENS.count(text) for _, text in kept) <= budget
    assert all(hit.text.startswith(text) for hit, text in kept)
    assert all(hit.text == text for hit, text in kept[:-1])


async def test_a_search_puts_off_the_expiry_of_its_stores(
    api: Api, model: ScriptedModel, search: ScriptedSearch, clock: FrozenClock
) -> None:
    model.calls(QUESTION)
    model.says("Two years.")
    talk = await with_store(api, thread_store=True)
    clock.advance(1_000)
    await talk.ask()
    (store,) = (await api.get("/vector_stores"))["data"]
    assert store["last_active_at"] == int(clock.now())


async def test_an_expired_store_on_the_thread_fails_the_run(
    api: Api, model: ScriptedModel, clock: FrozenClock
) -> None:
    talk = await with_store(api, thread_store=True)
    (store,) = (await api.get("/vector_stores"))["data"]
    await api.post(
        f"/vector_stores/{store['id']}",
        {"expires_after": {"anchor": "last_active_at", "days": 1}},
    )
    clock.advance(86_400)
    run = await talk.ask()
    assert (run["status"], run["last_error"]) == (
        "failed",
        {
            "code": "server_error",
            "message": f"The vector store {store['id']} of this thread has expired.",
        },
    )
    assert not model.requests


async def test_an_expired_store_of_the_assistant_is_left_out(
    api: Api, model: ScriptedModel, search: ScriptedSearch, clock: FrozenClock
) -> None:
    model.calls(QUESTION)
    model.says("I do not know.")
    talk = await with_store(api)
    (store,) = (await api.get("/vector_stores"))["data"]
    await api.post(
        f"/vector_stores/{store['id']}",
        {"expires_after": {"anchor": "last_active_at", "days": 1}},
    )
    clock.advance(86_400)
    await talk.ask()
    assert heard(model) == NOTHING_TO_SEARCH


async def test_a_store_that_another_project_has_is_not_searched(
    api: Api, model: ScriptedModel, search: ScriptedSearch, server: Running
) -> None:
    model.calls(QUESTION)
    model.says("I do not know.")
    async with server.http(await server.new_key("other")) as http:
        theirs = await Api(http).post("/vector_stores", {})
    talk = await with_store(api)
    resources = {"file_search": {"vector_store_ids": [theirs["id"]]}}
    await server.database.write(give, talk.assistant, resources)
    await talk.ask()
    assert heard(model) == NOTHING_TO_SEARCH
    assert not search.requests


def give(tx: Tx, assistant_id: str, resources: Json) -> None:
    """What the API would refuse."""
    tx.session.execute(
        update(AssistantRow)
        .where(AssistantRow.id == assistant_id)
        .values(tool_resources=resources)
        .execution_options(synchronize_session=False)
    )


async def test_a_store_deleted_meanwhile_has_nothing(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    model.calls(QUESTION)
    model.says("I do not know.")
    search.fails(NotFound("No such store."))
    talk = await with_store(api)
    assert (await talk.ask())["status"] == "completed"
    assert heard(model) == NOTHING_FOUND


async def test_an_embedder_that_does_not_answer_fails_the_run(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    model.calls(QUESTION)
    search.fails(EmbeddingError("The embedding model did not answer."))
    talk = await with_store(api)
    run = await talk.ask()
    assert run["last_error"] == {
        "code": "server_error",
        "message": "The files could not be searched: The embedding model did not answer.",
    }


async def test_a_run_is_cancelled_while_it_searches(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    model.calls(QUESTION)
    search.waits(asyncio.Event())
    talk = await with_store(api)
    async with talk.streamed() as stream:
        run = await stream.until("thread.run.created")
        await stream.until("thread.run.step.delta")
        await talk.cancel(run.json)
        await stream.until("thread.run.cancelled")


# Waiting for files


def reading(tx: Tx, store_id: str) -> None:
    """A file is being read into the store, by nobody that would finish."""
    store = tx.session.get_one(VectorStoreRow, seq_of(tx, store_id))
    tx.session.add(
        VectorStoreFileRow(
            id=f"{store_id}/file-9",
            project_id=store.project_id,
            created_at=tx.now,
            vector_store_id=store_id,
            file_id="file-9",
            status="in_progress",
            usage_bytes=0,
            attributes={},
            chunking_strategy=StaticChunking(),
            due_at=None,
        )
    )


def seq_of(tx: Tx, store_id: str) -> int:
    (seq,) = [row.seq for row in tx.session.query(VectorStoreRow).filter_by(id=store_id)]
    return seq


def read(tx: Tx, store_id: str) -> None:
    """The file is read."""
    tx.session.execute(
        update(VectorStoreFileRow)
        .where(VectorStoreFileRow.vector_store_id == store_id)
        .values(status="completed")
        .execution_options(synchronize_session=False)
    )
    tx.wake(store_id)


async def store_being_read(api: Api, server: Running) -> str:
    (store,) = (await api.get("/vector_stores"))["data"]
    await server.database.write(reading, store["id"])
    return store["id"]


async def test_a_run_waits_for_files_of_its_thread(
    api: Api, model: ScriptedModel, server: Running
) -> None:
    model.says("Hello")
    talk = await with_store(api, thread_store=True)
    store = await store_being_read(api, server)
    run = await talk.run()
    await talk.until(run, "in_progress")
    assert not model.requests
    await server.database.write(read, store)
    assert (await talk.rested(run))["status"] == "completed"


async def test_a_run_does_not_wait_for_files_of_its_assistant(
    api: Api, model: ScriptedModel, server: Running
) -> None:
    model.says("Hello")
    talk = await with_store(api)
    await store_being_read(api, server)
    assert (await talk.ask())["status"] == "completed"


async def test_a_run_that_waits_for_files_is_cancelled_at_once(
    api: Api, model: ScriptedModel, server: Running
) -> None:
    talk = await with_store(api, thread_store=True)
    await store_being_read(api, server)
    async with talk.streamed() as stream:
        run = await stream.until("thread.run.in_progress")
        await talk.cancel(run.json)
        await stream.until("thread.run.cancelled")


async def test_a_run_that_waits_for_files_expires(
    api: Api, model: ScriptedModel, server: Running, clock: FrozenClock
) -> None:
    talk = await with_store(api, thread_store=True)
    await store_being_read(api, server)
    async with talk.streamed() as stream:
        await stream.until("thread.run.in_progress")
        clock.advance(600)
        await stream.until("thread.run.expired")


@pytest.mark.parametrize("settings", [{"file_search": {"wait": "20ms"}}])
async def test_a_run_goes_on_when_files_take_too_long(
    api: Api, model: ScriptedModel, server: Running
) -> None:
    model.says("Hello")
    talk = await with_store(api, thread_store=True)
    await store_being_read(api, server)
    assert (await talk.ask())["status"] == "completed"


# Citations


async def answered(
    api: Api, model: ScriptedModel, search: ScriptedSearch, *pieces: str
) -> tuple[Json, list[Json]]:
    """The message of a run that searched once and then said this, and its stream's deltas."""
    model.calls(QUESTION)
    model.says(*pieces)
    search.finds(WARRANTY, SHIPPING)
    talk = await with_store(api)
    text = await talk.transcript()
    return (await talk.messages())[-1], deltas_of(text)


async def test_a_marker_and_its_annotation_come_in_one_delta(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    _, deltas = await answered(api, model, search, *"So 【0:1】.")
    (cited,) = [delta for delta in deltas if delta["text"].get("annotations")]
    assert cited == {
        "index": 0,
        "type": "text",
        "text": {
            "value": "【0:1†b(1).txt】",
            "annotations": [
                {
                    "index": 0,
                    "type": "file_citation",
                    "text": "【0:1†b(1).txt】",
                    "start_index": 3,
                    "end_index": 17,
                    "file_citation": {"file_id": "file-2", "quote": ""},
                }
            ],
        },
    }


async def test_the_sdk_adds_deltas_up_to_the_stored_message(
    api: Api, model: ScriptedModel, search: ScriptedSearch, client: AsyncOpenAI
) -> None:
    model.calls(QUESTION)
    model.says(*"\U0001f600 【0:0†source】, [0:1†x】 and 【0:0, 0:1】.")
    search.finds(WARRANTY, SHIPPING)
    talk = await with_store(api)
    runs = client.beta.threads.runs
    async with runs.stream(thread_id=talk.thread, assistant_id=talk.assistant) as stream:
        deltas = [event.data async for event in stream if event.event == "thread.message.delta"]
        (final,) = await stream.get_final_messages()
    texts = [
        part.text for delta in deltas for part in delta.delta.content or () if part.type == "text"
    ]
    assert "".join(text.value or "" for text in texts if text) == text_of(final.model_dump())
    assert len(assert_cited(final.model_dump())) == 4
    assert final.to_dict() == (await talk.messages())[-1]


async def test_annotations_count_up_and_the_content_index_stays(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    message, deltas = await answered(api, model, search, "【0:0, 0:1】", " [0:0†source]")
    annotations = [one for delta in deltas for one in delta["text"].get("annotations", ())]
    assert [one["index"] for one in annotations] == [0, 1, 2]
    assert {delta["index"] for delta in deltas} == {0}
    assert len(assert_cited(message)) == 3


async def test_a_marker_that_names_nothing_is_not_sent(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    message, _ = await answered(api, model, search, "So 【4:0†source】it is.")
    assert (text_of(message), assert_cited(message)) == ("So it is.", [])


async def test_a_run_without_file_search_keeps_what_looks_like_a_marker(
    api: Api, model: ScriptedModel
) -> None:
    model.says("So 【4:0†source】 it is.")
    talk = await api.talk()
    await talk.ask()
    assert (await talk.said())[-1] == "So 【4:0†source】 it is."


async def test_passages_of_every_search_can_be_cited(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    model.calls(QUESTION, QUESTION)
    model.says_then_calls(["First 【1:0†b(1).txt】."], QUESTION)
    model.says("Then 【0:0†a.txt】【2:0†c.txt】.")
    search.finds(WARRANTY)
    search.finds(SHIPPING)
    search.finds(passage("Third", filename="c.txt", file_id="file-3"))
    talk = await with_store(api)
    await talk.ask()
    cited = [assert_cited(message) for message in (await talk.messages())[1:]]
    files = [[one["file_citation"]["file_id"] for one in message] for message in cited]
    assert files == [["file-2"], ["file-1", "file-3"]]


async def test_a_call_id_that_is_given_again_is_cited_as_the_later_search(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    for _ in range(2):  # some providers number the calls of each turn anew
        model.plays(
            ToolCallOpened(0, "call_0", "file_search"),
            ToolCallDelta(0, "warranty"),
            Finished("tool_calls", USAGE),
        )
    model.says("First 【0:0†a.txt】, then 【1:0†b(1).txt】.")
    search.finds(WARRANTY)
    search.finds(SHIPPING)
    talk = await with_store(api)
    assert (await talk.ask())["status"] == "completed"
    assert 'marker="【1:0†b(1).txt】"' in heard(model)
    cited = [one["file_citation"]["file_id"] for one in assert_cited((await talk.messages())[-1])]
    assert cited == ["file-1", "file-2"]


async def test_what_is_held_back_is_sent_before_a_refusal_or_a_call(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    model.plays("Well【0", RefusalDelta("No."), "[0", Finished("stop", USAGE))
    model.plays("Well[0:", ToolCallOpened(0, "call_1", "weather"), Finished("tool_calls", USAGE))
    talk = await with_store(api, tools=[SEARCH, FUNCTION])
    await talk.ask()
    await talk.ask(additional_messages=[{"role": "user", "content": "And?"}])
    _, refused, _, called = await talk.messages()
    assert [part["type"] for part in refused["content"]] == ["text", "refusal", "text"]
    assert text_of(refused) == "Well【0No.[0"
    assert text_of(called) == "Well[0:"


async def test_a_cut_answer_keeps_its_citations(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    model.calls(QUESTION)
    model.says("Two \U0001f600 【0:0†a.txt】, free 【0:1", reason="length")
    search.finds(WARRANTY, SHIPPING)
    talk = await with_store(api)
    assert (await talk.ask())["status"] == "incomplete"
    message = (await talk.messages())[-1]
    assert message["status"] == "incomplete"
    assert text_of(message) == "Two \U0001f600 【0:0†a.txt】, free 【0:1†b(1).txt】"
    assert [one["file_citation"] for one in assert_cited(message)] == [
        {"file_id": "file-1", "page": 3},
        {"file_id": "file-2"},
    ]


async def test_a_cancelled_answer_keeps_its_citations(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    model.calls(QUESTION)
    model.plays("Two 【0:0†a.txt】", "【0", asyncio.Event())
    search.finds(WARRANTY)
    talk = await with_store(api)
    async with talk.streamed() as stream:
        run = await stream.until("thread.run.created")
        await stream.until("thread.message.delta", 2)
        await talk.cancel(run.json)
        await stream.rest()
    message = (await talk.messages())[-1]
    assert text_of(message) == "Two 【0:0†a.txt】"
    assert len(assert_cited(message)) == 1


async def test_markers_of_earlier_answers_do_not_go_back_to_the_model(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    model.calls(QUESTION)
    model.says_then_calls(["One【0:0†a.txt】."], QUESTION)
    model.says("Two【0:0†a.txt】, [free]【0:1†b(1).txt】.")
    model.says("Three.")
    search.finds(WARRANTY, SHIPPING)
    talk = await with_store(api)
    await talk.ask()
    own = [one.text for one in model.requests[-1].messages if isinstance(one, AssistantMessage)]
    assert own == ["", "One【0:0†a.txt】."]
    await talk.ask(additional_messages=[{"role": "user", "content": "And?"}])
    earlier = [one.text for one in model.requests[-1].messages if isinstance(one, AssistantMessage)]
    assert earlier == ["One.", "Two, [free]."]


# Models that do not cite


@pytest.fixture
def cites() -> bool:
    return True


@pytest.fixture
def models(model: ScriptedModel, cites: bool) -> ScriptedModels:
    return ScriptedModels(model, cites=cites)


@pytest.mark.parametrize("cites", [False])
async def test_a_sentence_that_rests_on_a_passage_is_cited(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    message, _ = await answered(api, model, search, "Hi! The warranty", " lasts 24 months. Bye")
    assert text_of(message) == "Hi! The warranty lasts 24 months.【0:0†a.txt】 Bye"
    assert len(assert_cited(message)) == 1


@pytest.mark.parametrize("cites", [True])
async def test_nothing_is_added_to_the_answers_of_models_that_cite(
    api: Api, model: ScriptedModel, search: ScriptedSearch
) -> None:
    message, _ = await answered(api, model, search, "The warranty lasts 24 months.")
    assert assert_cited(message) == []


@pytest.mark.parametrize("cites", [False])
async def test_without_passages_nothing_is_added(api: Api, model: ScriptedModel) -> None:
    model.says("The warranty lasts 24 months.")
    talk = await with_store(api)
    await talk.ask()
    assert (await talk.said())[-1] == "The warranty lasts 24 months."


# Lost workers


class Reader(ScriptedModel):
    """Searches once, then cites: whatever was lost, it says the same again."""

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent]:
        self.requests.append(request)
        if any(isinstance(message, ToolMessage) for message in request.messages):
            yield TextDelta("Two years 【0:0†")
            yield TextDelta("a.txt】.")
            yield Finished("stop", USAGE)
            return
        yield ToolCallOpened(0, f"call_{len(self.requests)}", "file_search")
        yield ToolCallDelta(0, "warranty")
        yield Finished("tool_calls", USAGE)


class SteadySearch(ScriptedSearch):
    """Finds the same each time."""

    async def find(self, *args: Any, **options: Any) -> Sequence[Hit]:
        return [WARRANTY]


@pytest.mark.parametrize("at", range(1, 9))
async def test_citations_survive_a_workers_loss_at_any_commit(
    database_url: str, model: ScriptedModel, clock: FrozenClock, at: int
) -> None:
    ids, models = SequentialIds(), ScriptedModels(Reader())
    async with (
        running_server(
            database_url,
            models,
            search=SteadySearch(),
            clock=clock,
            ids=ids,
            with_worker=False,
        ) as running,
        running.http() as http,
    ):
        talk = await with_store(Api(http))
        run = await talk.run()
        settings = running.context.settings.file_search
        dying = DyingDatabase(database_url, clock=clock, ids=ids, at=at, reached=True)
        tool = FileSearch(dying, SteadySearch(), settings)
        async with doomed(dying, models, {"file_search": tool}):
            await dying.lost.wait()
        await dying.close()
        clock.advance(16)
        tool = FileSearch(running.database, SteadySearch(), settings)
        feed = running.context.feed
        async with doomed(running.database, models, {"file_search": tool}, feed=feed):
            await talk.rested(run)
        message = (await talk.messages())[-1]
        assert text_of(message) == "Two years 【0:0†a.txt】."
        assert len(assert_cited(message)) == 1
