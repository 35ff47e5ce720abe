"""The order of events, as BEHAVIOURS of the hosted service recorded it."""

from openai import AsyncOpenAI

from threadloom.testing import ScriptedModel


async def test_a_run_streams_its_answer(client: AsyncOpenAI, model: ScriptedModel) -> None:
    model.says("Hel", "lo")
    assistant = await client.beta.assistants.create(model="gpt-4o")
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "Hi"}])
    stream = await client.beta.threads.runs.create(
        thread_id=thread.id, assistant_id=assistant.id, stream=True
    )
    assert [event.event async for event in stream] == [
        "thread.run.created",
        "thread.run.queued",
        "thread.run.in_progress",
        "thread.run.step.created",
        "thread.run.step.in_progress",
        "thread.message.created",
        "thread.message.in_progress",
        "thread.message.delta",
        "thread.message.delta",
        "thread.message.completed",
        "thread.run.step.completed",
        "thread.run.completed",
    ]
