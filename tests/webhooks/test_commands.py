"""`threadloom webhooks`, run as people run it."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.faults.processes import until
from tests.support.receiver import Receiver
from tests.support.server import Running
from tests.webhooks.test_delivery import tell
from threadloom.cli import cli
from threadloom.errors import StartError

ALLOWED = '["127.0.0.0/8"]'


@pytest.fixture
def settings(server: Running, database_url: str, tmp_path: Path) -> dict[str, str]:
    """Of the server's database."""
    return {
        "THREADLOOM_DATABASE__URL": database_url,
        "THREADLOOM_DATA_DIR": str(tmp_path),
        "THREADLOOM_OUTBOUND__ALLOW": ALLOWED,
        "COLUMNS": "200",
    }


async def run(settings: dict[str, str], *arguments: str) -> str:
    """What a command prints. Raises StartError, as `main` gets it."""
    command = ["webhooks", *arguments]
    result = await asyncio.to_thread(CliRunner().invoke, cli, command, env=settings)
    if result.exception:
        raise result.exception
    return result.output.strip()


async def test_an_endpoint_from_its_beginning_to_its_end(
    server: Running, receiver: Receiver, settings: dict[str, str]
) -> None:
    events = ("--event", "thread.run.completed")
    made, secret = (await run(settings, "create", receiver.url, *events)).split()
    receiver.secrets.append(secret)
    listed = await run(settings, "list")
    assert made in listed
    assert secret not in listed
    assert await run(settings, "test", made) == "The endpoint answered with status 200."
    await tell(server, "run_1")
    await receiver.has("thread.run.completed", "thread.run.completed")
    log = await run(settings, "deliveries", made)
    assert "delivered" in log
    (delivery,) = re.findall(r"^whd_\w+", log, re.MULTILINE)
    newest = json.loads(await run(settings, "deliveries", made, "--json"))["data"]
    assert [(one["id"], one["event_type"]) for one in newest] == [
        (delivery, "thread.run.completed")
    ]
    (endpoint,) = json.loads(await run(settings, "list", "--json"))
    assert (endpoint["id"], endpoint["url"]) == (made, receiver.url)
    again = await run(settings, "replay", delivery)
    assert again.startswith("whd_")
    await until(lambda: len(receiver.taken) == 3, "it came again")
    assert receiver.taken[1] == receiver.taken[2]
    await run(settings, "delete", made)
    with pytest.raises(StartError, match=made):
        await run(settings, "delete", made)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("create", "http://example.com"), "Webhooks are sent to https addresses"),
        (("create", "https://example.com", "--event", "thread.run.lost"), "'thread.run.lost'"),
        (("test", "whe_1"), "There is no webhook endpoint with id whe_1"),
        (("replay", "whd_1"), "There is no webhook delivery with id whd_1"),
    ],
)
async def test_what_cannot_be_is_refused_in_a_sentence(
    tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    settings = {"THREADLOOM_DATA_DIR": str(tmp_path)}
    await asyncio.to_thread(CliRunner().invoke, cli, ["db", "upgrade"], env=settings)
    with pytest.raises(StartError, match=problem):
        await run(settings, *arguments)
