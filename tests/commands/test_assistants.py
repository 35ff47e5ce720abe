"""`threadloom assistants`."""

from pathlib import Path

import httpx2
import orjson

from tests.api.wire import get, make_assistant
from tests.commands.running import Commands
from tests.support.server import Running


async def test_an_assistant_from_its_beginning_to_its_end(
    threadloom: Commands, http: httpx2.AsyncClient
) -> None:
    tools = ("--tool", "file_search", "--tool", "code_interpreter")
    options = ("--model", "gpt-4o", "--name", "Bee", "--instructions", "Be brief.", *tools)
    made = await threadloom.run("assistants", "create", *options)
    sent = await get(http, f"/assistants/{made}")
    assert (sent["model"], sent["name"], sent["instructions"]) == ("gpt-4o", "Bee", "Be brief.")
    assert [tool["type"] for tool in sent["tools"]] == ["file_search", "code_interpreter"]
    assert await threadloom.json("assistants", "show", made) == sent
    assert "Be brief." in await threadloom.run("assistants", "show", made)
    assert await threadloom.json("assistants", "list") == await get(http, "/assistants")
    (_, line) = (await threadloom.run("assistants", "list")).splitlines()
    assert line.split()[:3] == [made, "Bee", "gpt-4o"]
    assert (await threadloom.json("assistants", "delete", made))["deleted"] is True
    assert (await http.get(f"/assistants/{made}")).status_code == 404


async def test_an_id_of_old_programs_is_kept(
    threadloom: Commands, http: httpx2.AsyncClient
) -> None:
    create = ("assistants", "create", "--model", "gpt-4o", "--id", "asst_abc123")
    assert await threadloom.run(*create) == "asst_abc123"
    assert (await get(http, "/assistants/asst_abc123"))["model"] == "gpt-4o"
    taken = "There is an assistant with id 'asst_abc123' already."
    assert await threadloom.refused(*create) == taken
    assert await threadloom.refused(*create, "--project", "other") == taken
    await threadloom.run("assistants", "delete", "asst_abc123")
    assert await threadloom.run(*create) == "asst_abc123"


async def test_an_assistant_as_an_api_sent_it_is_made_again(
    threadloom: Commands, server: Running, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    sent = await make_assistant(http, name="Bee", tools=[{"type": "code_interpreter"}])
    await http.delete(f"/assistants/{sent['id']}")
    file = tmp_path / "assistant.json"
    file.write_bytes(orjson.dumps(sent))
    made = await threadloom.json("assistants", "create", "--file", str(file), "--project", "new")
    assert made | {"created_at": sent["created_at"]} == sent
    async with server.http(await server.new_key("new")) as other:
        assert (await get(other, f"/assistants/{sent['id']}")) == made


async def test_pages_follow_each_other(threadloom: Commands, http: httpx2.AsyncClient) -> None:
    first, second, third = [(await make_assistant(http))["id"] for _ in range(3)]
    page = await threadloom.json("assistants", "list", "--limit", "2", "--order", "asc")
    assert [one["id"] for one in page["data"]] == [first, second]
    assert page["has_more"] is True
    rest = await threadloom.json("assistants", "list", "--after", second, "--order", "asc")
    assert [one["id"] for one in rest["data"]] == [third]


REFUSED = (
    (("create", "--model", "m", "--id", "x"), "'x' is not an assistant's id"),
    (("create", "--model", "m", "--id", "asst_a b"), "'asst_a b' is not an assistant's id"),
    (("create", "--file", "nowhere.json"), "Cannot read nowhere.json"),
    (("create", "--model", ""), "Invalid 'model'"),
    (("show", "asst_1"), "No assistant found with id 'asst_1'."),
    (("delete", "asst_1"), "No assistant found with id 'asst_1'."),
    (("list", "--after", "asst_1"), "Invalid 'after'"),
    (("list", "--project", "nobodys"), "There is no project nobodys."),
)


async def test_what_cannot_be_is_refused_in_a_sentence(alone: Commands) -> None:
    for arguments, problem in REFUSED:
        assert (await alone.refused("assistants", *arguments)).startswith(problem)


async def test_a_file_must_hold_one_object(alone: Commands, tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    for content, problem in (("[]", "must hold one JSON object"), ("{", "Cannot read")):
        file.write_text(content)
        assert problem in await alone.refused("assistants", "create", "--file", str(file))
