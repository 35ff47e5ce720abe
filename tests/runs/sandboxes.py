"""What tests of the code interpreter share: talks with files, calls with code, what the model was told."""

from typing import Any

import orjson
from sqlalchemy import select

from tests.api.wire import make_file
from tests.runs.driver import CODE, Api, Json, Talk
from tests.support.server import Running
from threadloom.db.rows import SandboxFileRow
from threadloom.db.tx import Tx
from threadloom.llm.chat import ToolMessage
from threadloom.testing import ScriptedModel

TABLE = b"year,sales\n2024,7\n"
PNG = b"\x89PNG\r\n\x1a\nlines"
JPEG = b"\xff\xd8\xff\xe0dots"


async def upload(api: Api, content: bytes = TABLE, name: str = "sales.csv") -> str:
    """The id of a new File."""
    return (await make_file(api.http, content, name))["id"]


def seeing(*file_ids: str) -> Json:
    """The resources of an assistant or a thread whose code sees these Files."""
    return {"tool_resources": {"code_interpreter": {"file_ids": list(file_ids)}}}


async def coding(api: Api, *file_ids: str, **assistant: Any) -> Talk:
    """A talk with an assistant that runs code, on a thread that has these Files."""
    talk = await api.talk(**{"tools": [CODE]} | assistant)
    await api.post(talk.path, seeing(*file_ids))
    return talk


async def attach(talk: Talk, file_id: str) -> None:
    """A message with a File for code."""
    attachment = {"file_id": file_id, "tools": [CODE]}
    body = {"role": "user", "content": "Look.", "attachments": [attachment]}
    await talk.api.post(f"{talk.path}/messages", body)


def cell(code: str = "1 + 1") -> tuple[str, str]:
    """A call of the model."""
    return "code_interpreter", orjson.dumps({"code": code}).decode()


async def run_cell(talk: Talk, model: ScriptedModel, answer: str = "Done.") -> Json:
    """A run that runs code once and then answers."""
    model.calls(cell())
    model.says(answer)
    run = await talk.ask()
    assert run["status"] == "completed", run["last_error"]
    return run


def heard(model: ScriptedModel) -> str:
    """What the model was told last of a call."""
    message = model.requests[-1].messages[-1]
    assert isinstance(message, ToolMessage)
    return message.text


def listed(model: ScriptedModel) -> list[str]:
    """The lines about files in what the model was offered last."""
    (function,) = model.requests[-1].tools
    said: str = (function.parameters or {})["properties"]["code"]["description"]
    return [line for line in said.splitlines() if line.startswith("- ")]


def outputs_of(step: Json) -> list[Json]:
    (call,) = step["step_details"]["tool_calls"]
    return call["code_interpreter"]["outputs"]


async def content_of(api: Api, file_id: str) -> bytes:
    answer = await api.http.get(f"/files/{file_id}/content")
    assert answer.status_code == 200, answer.text
    return answer.content


def kept_of(tx: Tx, thread_id: str) -> dict[str, int]:
    """What is kept of a thread: sizes by path."""
    rows = select(SandboxFileRow).where(SandboxFileRow.thread_id == thread_id)
    return {row.path: row.size for row in tx.session.scalars(rows)}


async def kept(server: Running, talk: Talk) -> dict[str, int]:
    return await server.database.read(kept_of, talk.thread)


def links_of(message: Json) -> list[tuple[str, str]]:
    """The marked texts of a message and the Files they lead to."""
    return [
        (annotation["text"], annotation["file_path"]["file_id"])
        for part in message["content"]
        for annotation in part["text"]["annotations"]
    ]


async def linked(talk: Talk) -> str:
    """The File that the last answer links."""
    ((_, file_id),) = links_of((await talk.messages())[-1])
    return file_id
