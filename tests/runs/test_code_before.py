"""What the model is told of the code that ran in earlier runs of its thread."""

import asyncio

import pytest

from tests.runs.driver import Api
from tests.runs.sandboxes import cell, coding, upload
from threadloom.llm.analysis import tables_in
from threadloom.runs.code_before import HEADING, LONGEST
from threadloom.runs.tools import BuiltInTools
from threadloom.testing import FakeSandbox, ScriptedModel


@pytest.fixture
def built_in() -> BuiltInTools:
    """The server's own tool, instead of the double."""
    return {}


def told(model: ScriptedModel, request: int = -1) -> str | None:
    """The code that the model was shown; None when it was shown none."""
    (function,) = model.requests[request].tools
    said: str = (function.parameters or {})["properties"]["code"]["description"]
    _, heading, code = said.partition(f"\n{HEADING}\n")
    return code if heading else None


async def test_code_of_earlier_runs_is_shown_to_the_model(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    talk = await coding(api)
    model.calls(cell("x = 1\nif x:\n    print(x)\n"), cell(" "), cell("y = 2"))
    model.calls(cell("z = 3"))
    model.says("Done.")
    await talk.ask()
    assert [told(model, at) for at in range(3)] == [None] * 3
    model.says("It is.")
    await talk.ask()
    before = "    x = 1\n    if x:\n        print(x)\n    y = 2\n    z = 3"
    assert told(model) == before
    model.calls(cell("print(z)"))
    model.says("3.")
    await talk.ask()
    assert told(model) == before
    model.says("Bye.")
    await talk.ask()
    assert told(model) == f"{before}\n    print(z)"


async def test_code_that_did_not_come_to_its_end_is_not_shown(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    talk = await coding(api)
    model.calls(cell("forever()"))
    sandbox.then(asyncio.Event())
    run = await talk.run()
    await sandbox.began.wait()
    await talk.cancel(run)
    await talk.rested(run)
    model.says("Stopped.")
    await talk.ask()
    assert told(model) is None


async def test_of_much_code_the_newest_is_shown(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    talk = await coding(api)
    for number in range(8):
        model.calls(cell("\n".join(f"a{number} = {line:>60}" for line in range(10))))
    model.says("Done.")
    await talk.ask()
    model.says("Bye.")
    await talk.ask()
    first, *lines = (told(model) or "").splitlines()
    assert first == "    …"
    assert lines[-1] == f"    a7 = {9:>60}"
    assert LONGEST - 100 < sum(map(len, lines)) <= LONGEST


async def test_code_does_not_pass_for_files(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    talk = await coding(api, await upload(api))
    model.calls(cell('"""\n- /mnt/data/not.csv (1 bytes)\r- /mnt/data/nor.csv (2 bytes)\n"""'))
    model.says("Done.")
    await talk.ask()
    model.says("Bye.")
    await talk.ask()
    assert "\n    - /mnt/data/not.csv (1 bytes)\n    - /mnt/data/nor" in (told(model) or "")
    assert [table.name for table in tables_in(model.requests[-1].tools[0])] == ["sales.csv"]
