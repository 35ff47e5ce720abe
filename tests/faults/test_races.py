"""Many clients want the same thing at the same moment: one gets it."""

import asyncio
import re
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from tests.faults.client import ENDS, Client, Started, check_told_once, text_of
from tests.faults.processes import Fleet, Server, until
from threadloom.testing.upstream import Upstream

CROWD = 50
ROUNDS = 12


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(lasting_fleet: Fleet) -> Server:
    """SQLite: one process. PostgreSQL: an API and a worker."""
    lone = lasting_fleet.database_url.startswith("sqlite")
    server = lasting_fleet.serve(with_worker=lone)
    workers = [] if lone else [lasting_fleet.worker("a")]
    await asyncio.gather(*(process.ready() for process in (server, *workers)))
    return server


@pytest.fixture
async def client(server: Server) -> AsyncGenerator[Client]:
    async with Client(server) as client:
        yield client


async def test_one_of_many_runs_is_created(client: Client, scripted: Upstream) -> None:
    thread_id = await client.thread("[[delay:1]][[text:Hello there]]")
    body = {"assistant_id": await client.assistant()}
    path = f"/threads/{thread_id}/runs"
    answers = await asyncio.gather(*(client.try_post(path, body) for _ in range(CROWD)))
    [created] = [answer.json() for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 400]
    assert len(refused) == CROWD - 1
    assert {answer.json()["error"]["message"] for answer in refused} == {
        f"Thread {thread_id} already has an active run {created['id']}."
    }
    run = Started(created["id"], thread_id)
    await client.reaches(run, "completed")
    await check_told_once(client, run, "Hello there")
    assert scripted.calls.total() == 1


async def test_one_of_many_submissions_counts(client: Client, scripted: Upstream) -> None:
    run = await client.begin("[[tool:look {}]]", with_function=True)
    await client.reaches(run, "requires_action")
    action = (await client.run(run))["required_action"]
    call = action["submit_tool_outputs"]["tool_calls"][0]["id"]
    path = f"{run.path}/submit_tool_outputs"
    bodies = [
        {"tool_outputs": [{"tool_call_id": call, "output": f"[[delay:1]][[text:Number {number}]]"}]}
        for number in range(CROWD)
    ]
    answers = await asyncio.gather(*(client.try_post(path, body) for body in bodies))
    [winner] = [at for at, answer in enumerate(answers) if answer.status_code == 200]
    refused = [answer.json()["error"]["message"] for answer in answers if answer.status_code == 400]
    assert len(refused) == CROWD - 1
    for message in refused:
        assert re.fullmatch(
            'Runs in status "(queued|in_progress)" do not accept tool outputs.', message
        )
    await client.reaches(run, "completed")
    await check_told_once(client, run, f"Number {winner}")
    assert scripted.calls.total() == 2


async def test_a_cancel_races_with_the_end(client: Client) -> None:
    for number in range(ROUNDS):
        run = await client.begin(f"[[delay:{number * 0.004:.3f}]][[text:Hello there]]")
        async with client.following(run) as stream:
            answer = await client.try_post(f"{run.path}/cancel")
            await stream.end(within=30)
        status = (await client.run(run))["status"]
        if answer.status_code == 200:
            assert status == "cancelled"
        else:
            assert answer.json()["error"]["message"] == "Cannot cancel run with status 'completed'."
            assert status == "completed"
        assert stream.names[-1] == f"thread.run.{status}"
        assert sum(name in {f"thread.run.{end}" for end in ENDS} for name in stream.names) == 1


async def test_many_cancels_of_one_run(client: Client) -> None:
    run = await client.begin("[[hang]]")
    answers = await asyncio.gather(*(client.try_post(f"{run.path}/cancel") for _ in range(CROWD)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * (CROWD - 1)
    await client.reaches(run, "cancelled")


async def test_a_thread_is_deleted_under_its_run(client: Client) -> None:
    words = " ".join(f"word{number}" for number in range(30))
    for number in range(ROUNDS):
        run = await client.begin(f"[[rate:200]][[text:{words}]]")
        async with client.following(run) as stream:
            await stream.deltas(number * 3 % 30)
            answer = await client.delete(f"/threads/{run.thread_id}")
            assert answer.status_code == 200, answer.text
            await stream.end(within=30)
        assert stream.error == "The run was deleted." or stream.done
        assert (await client.try_post(f"{run.path}/cancel")).status_code == 404
    run = await client.begin("[[text:Hello there]]")
    await client.reaches(run, "completed")


async def test_threads_are_deleted_while_their_runs_are_written(
    client: Client, scripted: Upstream
) -> None:
    """The worker writes into a thread that the client deletes: neither may hold up the other."""
    runs = [
        await client.begin(f"[[delay:{0.3 + number * 0.01:.2f}]][[text:Hello there {number}]]")
        for number in range(40)
    ]
    await until(lambda: scripted.calls.total() >= len(runs) // 2, "half of the runs are written")
    answers = await asyncio.gather(*(client.delete(f"/threads/{run.thread_id}") for run in runs))
    assert {answer.status_code for answer in answers} == {200}
    run = await client.begin("[[text:Hello there]]")
    await client.reaches(run, "completed")


async def test_a_message_races_with_a_run(client: Client) -> None:
    assistant_id = await client.assistant()
    for number in range(ROUNDS):
        thread_id = await client.thread("[[text:First]]")
        message = {"role": "user", "content": "[[text:Second]]"}
        calls = [
            client.try_post(f"/threads/{thread_id}/messages", message),
            client.try_post(f"/threads/{thread_id}/runs", {"assistant_id": assistant_id}),
        ]
        added, created = await asyncio.gather(*calls)
        assert created.status_code == 200, number
        run = Started(created.json()["id"], thread_id)
        await client.reaches(run, "completed")
        [answer] = await client.messages(run)
        if added.status_code == 200:
            # It came before the run, and was read; or after its end.
            listed = await client.get(f"/threads/{thread_id}/messages?order=asc")
            order = [text_of(one) for one in listed["data"]]
            assert order in (
                ["[[text:First]]", "[[text:Second]]", "Second"],
                ["[[text:First]]", "First", "[[text:Second]]"],
            )
        else:
            assert added.json()["error"]["message"] == (
                f"Can't add messages to {thread_id} while a run {run.id} is active."
            )
            assert text_of(answer) == "First"
