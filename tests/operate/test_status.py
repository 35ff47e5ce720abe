"""`threadloom status`: what goes on, and nothing of what is said."""

import json

from openai import AsyncOpenAI

from tests.faults.processes import until
from tests.operate.arena import run, settings_of
from tests.support.server import Running
from threadloom.testing import ScriptedModel

SECRET = "a private text"


async def test_status_tells_of_processes_runs_storage_and_failures(
    working: Running, client: AsyncOpenAI, model: ScriptedModel
) -> None:
    model.fails("rate_limit_exceeded", SECRET)
    assistant = await client.beta.assistants.create(model="m")
    await client.files.create(file=("a.txt", b"12345"), purpose="assistants")
    made = await client.beta.threads.create_and_run(
        assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": SECRET}]}
    )

    async def has_failed() -> bool:
        found = await client.beta.threads.runs.retrieve(made.id, thread_id=made.thread_id)
        return found.status == "failed"

    await until(has_failed, "the run failed")
    done = await run(settings_of(working), "status", "--json")
    found = json.loads(done.output)
    assert found["runs"] == {"failed": 1}
    assert found["waiting"]["runs"] == 0
    assert (found["stored"]["files"], found["stored"]["file_bytes"]) == (1, 5)
    assert found["stored"]["database_bytes"] > 0
    (process,) = found["processes"]
    assert (process["kind"], process["lost"]) == ("both", False)
    (failure,) = found["failures"]
    assert (failure["code"], failure["runs"]) == ("rate_limit_exceeded", 1)
    assert SECRET not in done.output
    shown = (await run(settings_of(working), "status")).output
    assert "1 failed" in shown
    assert "rate_limit_exceeded  1" in shown
    assert "1 (5 bytes)" in shown
    assert SECRET not in shown
    assert len(shown.splitlines()) <= 24, "more than a screen"


async def test_work_that_nobody_takes_is_told(small: Running) -> None:
    small.background.drain()
    async with small.openai() as client:
        assistant = await client.beta.assistants.create(model="m", instructions="Hi")
        await client.beta.threads.create_and_run(assistant_id=assistant.id)
    found = json.loads((await run(settings_of(small), "status", "--json")).output)
    assert found["runs"] == {"queued": 1}
    assert found["waiting"]["runs"] == 1
