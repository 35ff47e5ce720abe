"""Runs that run code: what the step shows, what the model hears, and how calls end."""

import asyncio
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from tests.runs.driver import CODE, Api, Talk, assert_transcript, parsed_all
from tests.runs.sandboxes import (
    JPEG,
    PNG,
    cell,
    coding,
    content_of,
    heard,
    kept,
    outputs_of,
    run_cell,
)
from tests.support.server import Running, running_server
from threadloom.files.sweeping import SKEW
from threadloom.runs import tool_calls
from threadloom.runs.code_interpreter import NO_CODE, PACKAGES
from threadloom.runs.code_outcome import (
    ABOUT,
    LOST,
    LOST_AFTERWARDS,
    NO_OUTPUT,
    STARTED_ANEW,
    STATE_KEPT,
    STATE_LOST,
    Outcome,
    shortened,
)
from threadloom.runs.tools import BuiltInTools, ToolFailure
from threadloom.sandbox.session import Finished, Logs, Picture, SandboxLost
from threadloom.testing import FakeSandbox, FrozenClock, ScriptedModel, ScriptedModels
from threadloom.testing.sandbox import Writes
from threadloom.tokens import O200K_TOKENS

LEASE = 16
IMAGE = Path(__file__).parents[2] / "src/threadloom/sandbox/image"


@pytest.fixture
def built_in() -> BuiltInTools:
    """The server's own tool, instead of the double."""
    return {}


# What is shown and heard


async def test_a_call_is_streamed(api: Api, model: ScriptedModel, sandbox: FakeSandbox) -> None:
    model.calls(cell("print(6 * 7)"))
    model.says("It is 42.")
    sandbox.then(Logs("42\n"), Picture("image/png", PNG))
    talk = await coding(api)
    assert_transcript("code_interpreter", await talk.transcript())
    assert [(one.code, one.seconds) for one in sandbox.cells] == [("print(6 * 7)", 120)]


async def test_output_is_one_text_before_the_pictures(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    sandbox.then(
        Logs("a\n"),
        Picture("image/png", PNG),
        Logs("b\0\n"),
        Picture("image/jpeg", JPEG),
    )
    talk = await coding(api)
    step, _ = await talk.steps(await run_cell(talk, model))
    logs, *images = outputs_of(step)
    assert logs == {"type": "logs", "logs": "a\nb\N{REPLACEMENT CHARACTER}\n"}
    files = [await api.get(f"/files/{one['image']['file_id']}") for one in images]
    assert [(one["purpose"], one["filename"], one["bytes"]) for one in files] == [
        ("assistants_output", f"{files[0]['id']}.png", len(PNG)),
        ("assistants_output", f"{files[1]['id']}.jpg", len(JPEG)),
    ]
    assert [await content_of(api, one["id"]) for one in files] == [PNG, JPEG]
    names = ", ".join(one["filename"] for one in files)
    assert heard(model).endswith(f"\n\n{ABOUT}\n- Shown to the user: {names}.")


async def test_code_that_says_nothing_has_no_outputs(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    talk = await coding(api)
    step, _ = await talk.steps(await run_cell(talk, model))
    assert outputs_of(step) == []
    assert heard(model) == NO_OUTPUT


async def test_a_call_without_code_is_told_so(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    model.calls(("code_interpreter", '{"code": " "}'))
    model.says("Oh.")
    talk = await coding(api)
    assert (await talk.ask())["status"] == "completed"
    assert heard(model) == NO_CODE
    assert not sandbox.cells


@pytest.mark.parametrize(
    ("finished", "sentences"),
    [
        (Finished("error"), []),
        (
            Finished("timeout"),
            ["The code ran longer than 120 seconds and was stopped.", STATE_KEPT],
        ),
        (Finished("interrupted"), ["The code was interrupted.", STATE_KEPT]),
        (
            Finished("died", state_lost=True, cut=70_000),
            [
                "The process that ran the code exited, crashed or was killed.",
                STATE_LOST,
                "70,000 more characters of output were left out.",
            ],
        ),
        (
            Finished("out_of_memory", state_lost=True),
            [
                "The code needed more memory than the sandbox has (1,024 MiB) and was ended. Work on less data at a time.",
                STATE_LOST,
            ],
        ),
    ],
    ids=lambda given: given.ending if isinstance(given, Finished) else "",
)
async def test_how_code_ended_is_said_in_sentences(
    api: Api,
    model: ScriptedModel,
    sandbox: FakeSandbox,
    finished: Finished,
    sentences: list[str],
) -> None:
    sandbox.then(Logs("so far\n"), finished)
    talk = await coding(api)
    step, _ = await talk.steps(await run_cell(talk, model))
    (logs,) = outputs_of(step)
    assert logs["logs"].split("\n") == ["so far", *(sentences or [""])]
    told = [f"- {sentence}" for sentence in sentences]
    assert heard(model).split("\n") == ["so far", *(["", ABOUT, *told] if told else [])]


async def test_the_model_hears_the_beginning_and_the_end_of_long_output(
    api: Api, models: ScriptedModels, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    models.context_window = 4_000
    output = "".join(f"line {number}\n" for number in range(10_000))
    sandbox.then(Logs(output), Writes("out.csv", b"1"))
    talk = await coding(api)
    step, _ = await talk.steps(await run_cell(talk, model))
    assert outputs_of(step) == [{"type": "logs", "logs": output}]
    assert O200K_TOKENS.count(heard(model)) < 4_000
    text, _, about = heard(model).rpartition("\n\n")
    head, tail = re.split(r"\n\[… [\d,]+ characters are left out here …\]\n", text)
    assert output.startswith(head)
    assert output.endswith(f"{tail}\n")
    assert about == f"{ABOUT}\n- Written: [out.csv](sandbox:/mnt/data/out.csv)."


@given(st.text(), st.integers(1, 40))
def test_what_is_shortened_has_both_ends_and_fits(text: str, budget: int) -> None:
    short = shortened(text, budget, O200K_TOKENS)
    if O200K_TOKENS.count(text) <= budget:
        assert short == text
        return
    head, tail = re.split(r"\n\[… [\d,]+ characters are left out here …\]\n", short)
    assert text.startswith(head)
    assert text.endswith(tail)
    assert O200K_TOKENS.count(head) + O200K_TOKENS.count(tail) <= budget


async def test_the_tool_is_described_within_what_providers_allow(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    model.says("Hello")
    talk = await coding(api)
    await talk.ask()
    (function,) = model.requests[0].tools
    assert function.name == "code_interpreter"
    assert len(function.description or "") <= 1_024
    assert "120 seconds" in (function.description or "")
    assert "There are no files in /mnt/data yet." in str(function.parameters)
    assert not sandbox.sessions


def test_the_packages_that_are_promised_are_in_the_image() -> None:
    required = (IMAGE / "requirements.in").read_text().lower()
    installed = set(re.findall(r"^[a-z][\w-]*", required, re.MULTILINE))
    assert set(PACKAGES.split(", ")) <= installed


# How calls fail


async def test_a_run_fails_where_there_is_no_sandbox(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    sandbox.unavailable = "All 16 sandboxes of this server are busy; try again later."
    model.calls(cell())
    talk = await coding(api)
    run = await talk.ask()
    assert run["status"] == "failed"
    assert run["last_error"] == {"code": "server_error", "message": sandbox.unavailable}


async def test_a_run_fails_where_files_cannot_be_stored(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, server: Running
) -> None:
    folder = server.context.settings.data_dir / "files"
    shutil.rmtree(folder)
    folder.write_bytes(b"")
    sandbox.then(Writes("out.csv", b"1"))
    model.calls(cell())
    talk = await coding(api)
    run = await talk.ask()
    assert run["last_error"] == {
        "code": "server_error",
        "message": "The file storage does not answer. Please try again in a moment.",
    }


async def test_what_went_wrong_is_said_also_when_clearing_up_fails(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("", {}, Exception("gone"))

    monkeypatch.setattr(Outcome, "abandon", fail)
    sandbox.unavailable = "All 16 sandboxes of this server are busy; try again later."
    model.calls(cell())
    run = await (await coding(api)).ask()
    assert run["last_error"] == {"code": "server_error", "message": sandbox.unavailable}


async def test_what_a_call_wrote_is_swept_when_it_cannot_be_recorded(
    api: Api,
    model: ScriptedModel,
    sandbox: FakeSandbox,
    server: Running,
    clock: FrozenClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise ToolFailure("refused")

    monkeypatch.setattr(tool_calls, "record_result", fail)
    sandbox.then(Picture("image/png", PNG), Writes("out.csv", b"1"))
    model.calls(cell())
    run = await (await coding(api)).ask()
    assert run["last_error"] == {"code": "server_error", "message": "refused"}
    clock.advance(SKEW + 1)
    await server.background.sweep()
    folder = server.context.settings.data_dir / "files"
    assert [path for path in folder.rglob("*") if path.is_file()] == []


async def test_a_run_that_runs_no_code_needs_no_sandbox(
    database_url: str, model: ScriptedModel
) -> None:
    model.says("Hello")
    model.calls(cell())
    async with running_server(database_url, ScriptedModels(model)) as server, server.http() as http:
        talk = await Api(http).talk(tools=[CODE])
        assert (await talk.ask())["status"] == "completed"
        run = await talk.ask()
    assert run["status"] == "failed"
    assert "code interpreter" in run["last_error"]["message"]


async def test_a_lost_sandbox_is_told_and_the_code_is_not_run_again(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    sandbox.then(Logs("half\n"), Picture("image/png", PNG), SandboxLost())
    model.calls(cell("a = 1"))
    model.calls(cell("print(a)"))
    model.says("Well.")
    talk = await coding(api)
    run = await talk.ask()
    assert run["status"] == "completed"
    first, second, _ = await talk.steps(run)
    assert outputs_of(first)[0]["logs"] == f"half\n{LOST}"
    assert outputs_of(first)[1]["type"] == "image"
    assert outputs_of(second) == []
    assert heard(model) == f"{NO_OUTPUT}\n\n{ABOUT}\n- {STARTED_ANEW}"
    assert [one.code for one in sandbox.cells] == ["a = 1", "print(a)"]


class LosesFiles(FakeSandbox):
    """Ends when a certain file is asked for."""

    def refuse(self, path: str) -> None:
        if path == "b.csv":
            raise SandboxLost


async def test_a_sandbox_that_is_lost_while_files_are_copied_is_told(
    database_url: str, model: ScriptedModel
) -> None:
    sandbox = LosesFiles()
    sandbox.then(Writes("a.csv", b"a"), Writes("b.csv", b"b"))
    async with (
        running_server(database_url, ScriptedModels(model), sandbox=sandbox) as server,
        server.http() as http,
    ):
        talk = await coding(Api(http))
        await run_cell(talk, model)
        assert LOST_AFTERWARDS in heard(model)
        assert await kept(server, talk) == {"a.csv": 1}


async def test_a_sandbox_that_was_away_is_told_once(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    talk = await coding(api)
    said: list[str] = []
    for _ in range(2):
        await run_cell(talk, model)
        said.append(heard(model))
    sandbox.lose(talk.thread)
    for _ in range(2):
        await run_cell(talk, model)
        said.append(heard(model))
    assert [STARTED_ANEW in one for one in said] == [False, False, True, False]


# How calls are ended


async def ask_for_ever(talk: Talk, model: ScriptedModel, sandbox: FakeSandbox) -> str:
    """A run whose code does not end; it has shown a picture."""
    sandbox.then(Logs("so far\n"), Picture("image/png", PNG), asyncio.Event())
    model.calls(cell("while True: pass"))
    run = await talk.run()
    await sandbox.began.wait()
    return run["id"]


async def test_cancelling_ends_the_code(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, server: Running, clock: FrozenClock
) -> None:
    talk = await coding(api)
    run = await ask_for_ever(talk, model, sandbox)
    await talk.cancel(run)
    assert (await talk.rested(run))["status"] == "cancelled"
    assert [one.code for one in sandbox.left] == ["while True: pass"]
    (step,) = await talk.steps(run)
    assert (step["status"], outputs_of(step)) == ("cancelled", [])
    clock.advance(SKEW + 1)
    await server.background.sweep()
    folder = server.context.settings.data_dir / "files"
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert (await api.get("/files"))["data"] == []
    await run_cell(talk, model)
    assert heard(model) == NO_OUTPUT


async def test_expiry_ends_the_code(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, clock: FrozenClock
) -> None:
    talk = await coding(api)
    run = await ask_for_ever(talk, model, sandbox)
    clock.advance(600)
    assert (await talk.rested(run))["status"] == "expired"
    assert [one.code for one in sandbox.left] == ["while True: pass"]


async def test_deleting_the_thread_ends_the_code(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, server: Running
) -> None:
    talk = await coding(api)
    await ask_for_ever(talk, model, sandbox)
    await api.delete(talk.path)
    await server.background.sweep()
    assert await sandbox.keys() == []


@pytest.mark.parametrize("settings", [{"code_interpreter": {"timeout": 7}}])
async def test_the_time_limit_is_that_of_the_settings(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox, settings: Mapping[str, Any]
) -> None:
    talk = await coding(api)
    await run_cell(talk, model)
    assert [one.seconds for one in sandbox.cells] == [7]


async def test_inputs_are_streamed_as_they_are_stored(
    api: Api, model: ScriptedModel, sandbox: FakeSandbox
) -> None:
    model.calls(("code_interpreter", "x = '\\u00e9'\nx"))
    model.says("Done.")
    talk = await coding(api)
    text = await talk.transcript()
    (step, _) = await talk.steps(parsed_all(text)[0].json["id"])
    (call,) = step["step_details"]["tool_calls"]
    streamed = "".join(
        event.json["delta"]["step_details"]["tool_calls"][0]["code_interpreter"].get("input", "")
        for event in parsed_all(text)
        if event.name == "thread.run.step.delta"
    )
    assert call["code_interpreter"]["input"] == streamed == sandbox.cells[0].code
