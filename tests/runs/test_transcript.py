"""How a long thread is shortened for the model."""

import asyncio
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runs.driver import Api, Json
from tests.runs.workers import opened, queue_runs
from threadloom.db.database import Database
from threadloom.db.rows import MessageRow, RunRow
from threadloom.db.tx import Tx
from threadloom.llm.chat import AssistantMessage, ChatMessage, TextPart, UserMessage
from threadloom.runs.transcript import MESSAGE_OVERHEAD, build_transcript, text_of
from threadloom.testing import ScriptedModel, ScriptedModels
from threadloom.tokens import CL100K_TOKENS, O200K_TOKENS
from threadloom.types.messages import text_content
from threadloom.types.runs import TruncationStrategy

WORD = "word "


def shown(model: ScriptedModel) -> list[str]:
    return [text_of(message).strip() for message in model.requests[-1].messages]


async def test_auto_keeps_the_first_and_the_newest_messages(api: Api, model: ScriptedModel) -> None:
    model.says("Hello")
    talk = await api.talk("first", *(f"{number} " + WORD * 60 for number in range(10)), "newest")
    await talk.ask(max_prompt_tokens=256)
    texts = shown(model)
    assert (texts[0], texts[-1]) == ("first", "newest")
    assert [text.split()[0] for text in texts[1:-1]] == ["7", "8", "9"]


async def test_the_first_message_is_kept_beside_the_newest_alone(
    api: Api, model: ScriptedModel
) -> None:
    model.says("Hello")
    talk = await api.talk("first", WORD * 300, "newest")
    await talk.ask(max_prompt_tokens=256)
    assert shown(model) == ["first", "newest"]


async def test_a_large_first_message_pushes_others_out(api: Api, model: ScriptedModel) -> None:
    model.says("Hello")
    talk = await api.talk(WORD * 150, *(f"{number} " + WORD * 60 for number in range(5)))
    await talk.ask(max_prompt_tokens=256)
    assert [len(text.split()) for text in shown(model)] == [150, 61]


async def test_a_first_message_that_fits_in_no_case_is_left_out(
    api: Api, model: ScriptedModel
) -> None:
    model.says("Hello")
    talk = await api.talk(WORD * 300, *(f"{number} " + WORD * 100 for number in range(3)))
    await talk.ask(max_prompt_tokens=256)
    assert [text.split()[0] for text in shown(model)] == ["2"]


@pytest.mark.parametrize(
    ("limit", "expected"), [(1, ["4"]), (3, ["2", "3", "4"]), (9, list("01234"))]
)
async def test_last_messages_sends_the_newest(
    api: Api, model: ScriptedModel, limit: int, expected: list[str]
) -> None:
    model.says("Hello")
    talk = await api.talk(*"01234")
    await talk.ask(truncation_strategy={"type": "last_messages", "last_messages": limit})
    assert shown(model) == expected


async def test_last_messages_that_do_not_fit_are_fewer(api: Api, model: ScriptedModel) -> None:
    model.says("Hello")
    talk = await api.talk("first", *(f"{number} " + WORD * 100 for number in range(4)))
    strategy: Json = {"type": "last_messages", "last_messages": 4}
    await talk.ask(truncation_strategy=strategy, max_prompt_tokens=256)
    assert [text.split()[0] for text in shown(model)] == ["2", "3"]


async def test_a_thread_longer_than_a_page_is_read_page_by_page(
    api: Api, model: ScriptedModel
) -> None:
    model.says("Hello")
    texts = [str(number) for number in range(150)]
    talk = await api.talk(*texts)
    await talk.ask()
    assert shown(model) == texts


async def test_a_newest_message_larger_than_the_models_window_is_sent_all_the_same(
    api: Api, model: ScriptedModel, models: ScriptedModels
) -> None:
    models.context_window = 300
    model.says("Hello")
    talk = await api.talk("first", WORD * 500)
    assert (await talk.ask())["status"] == "completed"
    assert [len(text.split()) for text in shown(model)] == [500]


# The property


@pytest.fixture(scope="module")
def loop() -> Generator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture
def path(tmp_path: Path, migrated_sqlite: Path) -> Path:
    copied = tmp_path / "threadloom.db"
    copied.write_bytes(migrated_sqlite.read_bytes())
    return copied


TEXTS = st.one_of(st.text(max_size=60), st.integers(0, 120).map(lambda count: WORD * count))


def fill(tx: Tx, run_id: str, texts: list[str], limit: int | None) -> RunRow:
    """Put messages into a run's thread, in turns of user and assistant."""
    run = tx.session.query(RunRow).filter_by(id=run_id).one()
    kind = "auto" if limit is None else "last_messages"
    run.truncation_strategy = TruncationStrategy(type=kind, last_messages=limit)
    for number, text in enumerate(texts):
        tx.session.add(
            MessageRow(
                id=tx.ids.new("msg_"),
                project_id=run.project_id,
                thread_id=run.thread_id,
                created_at=tx.now,
                status="completed",
                role="assistant" if number % 2 else "user",
                content=[text_content(text)],
                attachments=[],
                metadata_={},
            )
        )
    return run


def spoken(message: ChatMessage) -> str:
    assert isinstance(message, UserMessage | AssistantMessage)
    return message.text if isinstance(message, AssistantMessage) else texts_of(message)


def texts_of(message: UserMessage) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, TextPart))


async def check(
    database: Database, texts: list[str], budget: int, limit: int | None, *, cl100k: bool
) -> None:
    tokens = CL100K_TOKENS if cl100k else O200K_TOKENS
    (run_id,) = await queue_runs(database)
    run = await database.write(fill, run_id, texts, limit)
    transcript = await build_transcript(database, run, tokens, budget=budget)
    system, *sent = transcript.messages
    size = sum(tokens.count(text_of(one)) + MESSAGE_OVERHEAD for one in (system, *sent))
    said = [spoken(message) for message in sent]
    assert said[-1] == texts[-1]
    assert transcript.cut == (size > budget)
    assert limit is None or len(said) <= limit
    middle_is_dropped = limit is None and len(said) > 1 and said[0] == texts[0]
    tail = said[1:] if middle_is_dropped else said
    assert tail == texts[len(texts) - len(tail) :]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    texts=st.lists(TEXTS, min_size=1, max_size=12),
    budget=st.integers(8, 400),
    limit=st.none() | st.integers(1, 5),
    cl100k=st.booleans(),
)
def test_a_transcript_fits_its_budget_and_has_the_newest_message(
    path: Path,
    loop: asyncio.AbstractEventLoop,
    texts: list[str],
    budget: int,
    limit: int | None,
    cl100k: bool,
) -> None:
    async def run() -> None:
        async with opened(f"sqlite:///{path}") as database:
            await check(database, texts, budget, limit, cl100k=cl100k)

    loop.run_until_complete(run())
