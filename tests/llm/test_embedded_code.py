"""The embedded model has Python run for what it cannot know, and says what came of it."""

import ast
import json
from typing import Any

import pytest

from tests.llm.conversation import WEATHER, ask, calls, events, said, text
from threadloom.config import CodeInterpreter as Settings
from threadloom.llm.chat import (
    AssistantMessage,
    ChatMessage,
    ChatRequest,
    Function,
    NamedTool,
    ToolCall,
    ToolCallDelta,
    ToolMessage,
)
from threadloom.llm.embedded import EmbeddedModel
from threadloom.runs.code_interpreter import description, parameters
from threadloom.runs.code_outcome import Outcome, sentences_of
from threadloom.runs.sandbox_files import Taken, ThreadFile
from threadloom.sandbox.session import Finished
from threadloom.testing import SequentialIds
from threadloom.tokens import encoding_for

MODEL = EmbeddedModel(SequentialIds())
CODE = NamedTool("code_interpreter")
SEARCH = Function("file_search", "Searches the files.", {"type": "object", "properties": {}})
CALL = ToolCall("call_1", "code_interpreter", "{}")
SALES = "- /mnt/data/sales.csv (file-abc123, 1,234 bytes)"
COSTS = "- /mnt/data/costs 2025.xlsx (file-def456, 99 bytes)"
MADE = "- /mnt/data/sales_summary.csv (54 bytes)"
NOTES = "- /mnt/data/notes.txt (file-ghi789, 7 bytes)"


def interpreter(*lines: str) -> Function:
    """The tool as it is offered, with these lines for its files."""
    code = {"type": "string", "description": "\n".join(("Python to run.", *lines))}
    return Function("code_interpreter", "Runs Python.", {"properties": {"code": code}})


def thread(*messages: ChatMessage, files: tuple[str, ...] = (SALES,), **fields: Any) -> ChatRequest:
    given: dict[str, Any] = {"tools": (interpreter(*files),), **fields}
    return ChatRequest("gpt-4o", messages, **given)


async def code_of(*messages: ChatMessage, **fields: Any) -> str | None:
    """What the model runs; None when it runs nothing."""
    found = await calls(MODEL, thread(*messages, **fields))
    codes = [json.loads(call.arguments)["code"] for call in found if call.name == CALL.name]
    return codes[0] if codes else None


async def code_for(question: str, **fields: Any) -> str | None:
    return await code_of(said(question), **fields)


async def analysed(question: str, **fields: Any) -> str | None:
    """The path of the table that the model analyses."""
    code = await code_for(question, **fields)
    assigned = [line for line in (code or "").splitlines() if line.startswith("path = Path(")]
    return ast.literal_eval(assigned[0][len("path = Path") :]) if assigned else None


async def answered(question: str, heard: str, **fields: Any) -> str:
    messages = (said(question), AssistantMessage("", (CALL,)), ToolMessage(CALL.id, heard))
    return await text(MODEL, thread(*messages, **fields))


# What the user wrote


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("Run this:\n```python\nx = 1\nprint(x)\n```", "x = 1\nprint(x)"),
        ("```py\nprint(1)", "print(1)"),
        ("```\nprint(1)\n```", "print(1)"),
        ("Please execute:\n```\nprint(1)\n```\nThanks", "print(1)"),
        ("First\n```python\na = 1\n```\nthen\n```python\na\n```", "a = 1\n\na"),
        ("````python\nprint('```')\n````", "print('```')"),
        ("  ```python\n  if True:\n      print(1)\n  ```", "  if True:\n      print(1)"),
        ("What did I say? Run\n```python\nprint(17 * 23)\n```", "print(17 * 23)"),
        ('Explain this JSON:\n```json\n{"a": 1}\n```', None),
        ("What does this say?\n```\nhello\n```", None),
        ("Run\n```python\n\n```", None),
    ],
)
async def test_python_between_fences_is_run_as_it_is(message: str, code: str | None) -> None:
    assert await code_for(message) == code


# Sums


async def test_sums_are_calculated() -> None:
    assert await code_for("What is 17 * 23?", files=()) == "print(17 * 23)"
    assert await code_for("What is my name?", files=()) is None


async def test_the_values_of_sums_are_said() -> None:
    assert await answered("What is 17 * 23?", "391") == "17 * 23 = 391\n\nPython calculated this."
    both = await answered("What is 2+2 and 3*3?", "4\n9\n")
    assert both.startswith("2+2 = 4\n3*3 = 9")


# Tables


@pytest.mark.parametrize(
    "question",
    [
        "Analyse this CSV and draw the trend",
        "Summarise the data",
        "Plot sales.csv",
        "What is in the file?",
        "Show me the SALES over time",
        "Which region has the highest total?",
        "Please visualize it",
    ],
)
async def test_a_table_is_analysed(question: str) -> None:
    assert await analysed(question) == "/mnt/data/sales.csv"


@pytest.mark.parametrize(
    "question", ["Hello", "Tell me a joke", "What is my name?", "What did I say about the data?"]
)
async def test_other_messages_leave_the_table_alone(question: str) -> None:
    assert await code_for(question) is None


@pytest.mark.parametrize(
    ("question", "files", "path"),
    [
        ("Draw a chart", (SALES, COSTS), "costs 2025.xlsx"),
        ("Draw a chart", (SALES, MADE, NOTES), "sales.csv"),
        ("Draw a chart", (MADE,), "sales_summary.csv"),
        ("Draw a chart of sales.csv", (SALES, COSTS), "sales.csv"),
        ("Analyse costs 2025", (COSTS, SALES), "costs 2025.xlsx"),
        ("Plot sales summary", (SALES, MADE), "sales_summary.csv"),
        ("Draw a chart", ("- /mnt/data/DATA.TSV (file-a, 1 bytes)",), "DATA.TSV"),
        ("Draw a chart", ("- /mnt/data/a (1).json (file-a, 1 bytes)",), "a (1).json"),
    ],
)
async def test_the_table_is_the_one_that_is_named_or_the_newest(
    question: str, files: tuple[str, ...], path: str
) -> None:
    assert await analysed(question, files=files) == f"/mnt/data/{path}"


async def test_without_a_table_there_is_nothing_to_analyse() -> None:
    assert await code_for("Analyse this CSV", files=(NOTES,)) is None
    introduction = await text(MODEL, thread(said("Analyse this CSV"), files=()))
    assert (
        "I make one standard analysis of an attached table (.csv, .tsv, .xlsx, .json)"
        in introduction
    )


async def test_a_column_that_it_named_before_is_about_the_table() -> None:
    earlier = AssistantMessage("- Rows in sales.csv: 2. Columns: unit price (number), Ort (text).")
    history = (said("Analyse sales.csv"), earlier)
    code = await code_of(*history, said("And the unit_price by ort?"))
    assert code is not None
    assert "asked = 'and the unit price by ort'.split()" in code
    assert await code_of(*history, said("And the colour?")) is None


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Analyse this CSV", None),
        ("Analyse sales.csv and save a summary", "('.csv',)"),
        ("Export the totals of sales.csv as xlsx", "('.xlsx',)"),
        ("Give me an Excel file of the sales", "('.xlsx',)"),
        ("Save the summary as csv and xlsx", "('.csv', '.xlsx')"),
        ("Convert this CSV to Excel", "('.xlsx',)"),
    ],
)
async def test_files_are_made_when_they_are_asked_for(question: str, expected: str | None) -> None:
    code = await code_for(question)
    assert code is not None
    made = [line for line in code.splitlines() if line.startswith("for extension in ")]
    assert made == ([f"for extension in {expected}:"] if expected else [])


async def test_a_conversion_saves_the_table_itself() -> None:
    code = await code_for("Convert this CSV to Excel")
    assert code is not None
    assert "df.to_excel(target" in code


async def test_the_data_of_the_run_before_are_used_when_they_are_meant() -> None:
    again, anew = 'if "df" not in globals():', 'if globals().get("source")'
    for question, loading in (("Plot df", again), ("Plot the same data", again), ("Plot it", anew)):
        code = await code_for(question)
        assert code is not None
        assert loading in code


@pytest.mark.parametrize(
    "name", ["a.csv", "a.tsv", "a.xlsx", "a.json", 'it\'s "x\\n".csv', "é.csv"]
)
@pytest.mark.parametrize(
    "wish", ["Analyse", "Convert to csv and xlsx:", "Export df:", "Plot \"'\\"]
)
async def test_the_analysis_is_python(name: str, wish: str) -> None:
    code = await code_for(f"{wish} {name}", files=(f"- /mnt/data/{name} (file-a, 1 bytes)",))
    assert code is not None
    compile(code, "<cell>", "exec")


async def test_the_code_is_streamed_in_pieces() -> None:
    seen = await events(MODEL, thread(said("Analyse this CSV")))
    pieces = [event.arguments for event in seen if isinstance(event, ToolCallDelta)]
    assert len(pieces) > 100
    assert "import pandas as pd" in json.loads("".join(pieces))["code"]


# Beside other tools


async def test_documents_are_searched_unless_the_table_is_meant() -> None:
    both = (SEARCH, interpreter(SALES))
    for question, name in (
        ("How long is the warranty of the lamp?", "file_search"),
        ("What does the file say about the average warranty?", "file_search"),
        ("Draw a chart of the revenue", "code_interpreter"),
        ("What is 17 * 23?", "code_interpreter"),
    ):
        (call,) = await calls(MODEL, ask(question, tools=both))
        assert call.name == name, question


async def test_functions_that_match_come_first_and_the_code_after_them() -> None:
    tools = (WEATHER, interpreter(SALES))
    question = said("Tell me the weather in Rome, and plot sales.csv")
    (call,) = await calls(MODEL, ChatRequest("gpt-4o", (question,), tools=tools))
    assert call.name == "get_weather"
    turn = (question, AssistantMessage("", (call,)), ToolMessage(call.id, "sunny"))
    assert await code_of(*turn, tools=tools)


async def test_a_function_that_took_the_numbers_leaves_no_sum() -> None:
    add = Function("add", "Add two numbers", {"type": "object", "properties": {}})
    call = ToolCall("call_2", "add", "{}")
    turn = (said("Please add 3 + 5"), AssistantMessage("", (call,)), ToolMessage(call.id, "8"))
    assert await text(MODEL, thread(*turn, tools=(add, interpreter()))) == "add returned: “8”"


@pytest.mark.parametrize("choice", [CODE, "required"])
async def test_tool_choice_is_obeyed(choice: Any) -> None:
    assert "df = read(path)" in (await code_for("Hello", tool_choice=choice) or "")
    assert "os.listdir" in (await code_for("Hello", tool_choice=choice, files=()) or "")
    assert await code_for("What is 2 + 2?", tool_choice=choice) == "print(2 + 2)"


async def test_a_tool_that_is_not_wanted_is_not_called() -> None:
    assert await code_for("What is 2 + 2?", tool_choice="none") is None
    others = {"tools": (WEATHER, interpreter(SALES)), "tool_choice": NamedTool("get_weather")}
    assert await code_for("What is 2 + 2?", **others) is None
    assert await text(MODEL, ask("What is 2 + 2?"))


# What it says

ANALYSED = "I ran my standard analysis of a table with Python. I only report it; I do not reason about it. It found:\n\n"
PRINTED_NOTHING = "I ran your Python as it stands (1 line). It printed nothing."


@pytest.mark.parametrize("choice", ["auto", "required", CODE])
async def test_it_says_what_an_analysis_found_and_links_what_it_wrote(choice: Any) -> None:
    heard = (
        "In short:\n- Rows in sales.csv: 2. Columns: a (number).\n- The chart shows the distribution of a.\n"
        "Saved /mnt/data/sales_summary.csv\n\nFirst rows:\n   a\n0  1\n\nAbout this call:\n- Shown to the user: file-1.png.\n"
        "- Written: [sales_summary.csv](sandbox:/mnt/data/sales_summary.csv)."
    )
    assert await answered("Analyse and save it", heard, tool_choice=choice) == (
        f"{ANALYSED}- Rows in sales.csv: 2. Columns: a (number).\n- The chart shows the distribution of a.\n\n"
        "Files: [sales_summary.csv](sandbox:/mnt/data/sales_summary.csv)"
    )


TRACEBACK = 'Traceback (most recent call last):\n  File "<cell>", line 1\nZeroDivisionError: division by zero'


@pytest.mark.parametrize(
    ("question", "heard", "expected"),
    [
        (
            "```python\nprint(1)\n```",
            "1\n",
            "I ran your Python as it stands (1 line). It printed:\n\n```\n1\n```",
        ),
        (
            "```python\na = 1\nb = 2\n```",
            "The code printed nothing.",
            "I ran your Python as it stands (2 lines). It printed nothing.",
        ),
        (
            "```python\n1/0\n```",
            TRACEBACK,
            "I ran your Python as it stands (1 line). It ended with an error: ZeroDivisionError: division by zero",
        ),
        (
            "```python\nprint('```')\n```",
            "```",
            "I ran your Python as it stands (1 line). It printed:\n\n````\n```\n````",
        ),
        (
            "What is 1/0 + 1?",
            TRACEBACK,
            "I ran Python for this. It ended with an error: ZeroDivisionError: division by zero",
        ),
        (
            "Analyse sales.csv",
            "In short:\n- Rows in sales.csv: 2. Columns: a (number).\n" + TRACEBACK,
            f"{ANALYSED}- Rows in sales.csv: 2. Columns: a (number).\n\nThen it ended with an error: ZeroDivisionError: division by zero",
        ),
        (
            "```python\nwhile True: pass\n```",
            "The code printed nothing.\n\nAbout this call:\n- The code ran longer than 120 seconds and was stopped.\n- Variables are kept.",
            f"{PRINTED_NOTHING}\n\nThe code ran longer than 120 seconds and was stopped.\n\nVariables are kept.",
        ),
    ],
)
async def test_it_says_what_came_of_the_code(question: str, heard: str, expected: str) -> None:
    assert await answered(question, heard) == expected


async def test_it_understands_how_the_tool_speaks() -> None:
    made = ThreadFile("sales_summary.csv", "file-2", 54, (), is_kept=True)
    files = (ThreadFile("sales.csv", "file-1", 1_234, (), input_id="file-1"), made)
    tool = Function("code_interpreter", description(Settings()), parameters(files))
    assert await analysed("Draw a chart", tools=(tool,)) == "/mnt/data/sales.csv"
    assert await analysed("Plot sales_summary.csv", tools=(tool,)) == "/mnt/data/sales_summary.csv"
    ended = Finished("timeout", cut=7)
    outcome = Outcome(endings=sentences_of(ended, Settings()), taken=Taken(shown=["out put.csv"]))
    answer = await answered("```python\nx\n```", outcome.heard(1_000, encoding_for("gpt-4o")))
    assert answer == (
        f"{PRINTED_NOTHING}\n\nThe code ran longer than 120 seconds and was stopped.\n\nVariables are kept.\n\n"
        "7 more characters of output were left out.\n\nFiles: [out put.csv](sandbox:/mnt/data/out%20put.csv)"
    )


async def test_long_output_is_cut() -> None:
    answer = await answered("```python\nprint('x' * 9999)\n```", "x" * 9999)
    assert answer.endswith("x…\n```")
    assert len(answer) < 5_000


async def test_passages_and_code_are_both_reported() -> None:
    search = ToolCall("call_2", "file_search", "{}")
    turn = (
        said("Run\n```python\nprint(1)\n```"),
        *(AssistantMessage("", (search,)), ToolMessage("call_2", "nothing")),
        *(AssistantMessage("", (CALL,)), ToolMessage("call_1", "1")),
    )
    answer = await text(MODEL, thread(*turn, tools=(SEARCH, interpreter())))
    assert "nothing in the documents" in answer
    assert "It printed:\n\n```\n1\n```" in answer


@pytest.mark.parametrize(
    ("question", "files", "says_so"),
    [
        ("Analyse both files", (SALES, COSTS), True),
        ("Please chart all of the attached files.", (SALES, COSTS), True),
        ("Compare sales.csv with costs 2025.xlsx", (SALES, COSTS), True),
        ("Analyse both files", (SALES, NOTES), False),
        ("Analyse all files", (SALES, MADE), False),
        ("Analyse sales.csv in all detail", (SALES, COSTS), False),
    ],
)
async def test_it_says_that_it_left_tables_out(
    question: str, files: tuple[str, ...], says_so: bool
) -> None:
    answer = await answered(question, "In short:\n- Rows in sales.csv: 2.\n", files=files)
    assert answer.startswith(f"{ANALYSED}- Rows in sales.csv: 2.")
    assert ("I analyse one table at a time and left the others out" in answer) is says_so
