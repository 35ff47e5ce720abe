"""The page about the command line, and the exit codes in it."""

import pytest

from tests.commands.running import Commands
from tools import commands


def test_the_page_tells_what_the_commands_are() -> None:
    assert commands.PAGE.read_text() == commands.page(), "Run `python -m tools.commands`."


def test_every_command_says_what_it_does() -> None:
    described = commands.page().split("\n")
    silent = [
        line
        for line, _, after in zip(described, described[1:], described[2:], strict=False)
        if line.startswith("##") and not after
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("version",), 0, ""),
        (("assistants", "show", "asst_1"), 1, "No assistant found with id 'asst_1'.\n"),
        (("assistants", "show"), 2, "Missing argument"),
    ],
)
async def test_a_process_ends_with_the_exit_code_of_the_page(
    alone: Commands, arguments: tuple[str, ...], code: int, said: str
) -> None:
    process = await alone.process(*arguments)
    printed, problem = await process.communicate()
    assert process.returncode == code
    assert said in problem.decode()
    assert bool(printed) == (code == 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ("assistants", "create", "--name", "Bee"),
        ("assistants", "create", "--model", "m", "--tool", "hammer"),
        ("threads", "show"),
        ("threads", "list", "--order", "up"),
        ("runs", "list", "--status", "lost"),
        ("files", "list", "--limit", "0"),
        ("files", "upload", "notes.txt", "--purpose", "none"),
        ("stores", "search", "vs_1"),
        ("stores", "search", "vs_1", "bees", "--threshold", "2"),
        ("models", "list", "--everything"),
        ("usage", "--by", "weather"),
        ("usage", "--since", "yesterday"),
    ],
    ids=" ".join,
)
async def test_wrong_usage_ends_with_2(alone: Commands, arguments: tuple[str, ...]) -> None:
    ended = await alone.result(*arguments)
    assert (ended.exit_code, ended.stdout) == (2, "")
