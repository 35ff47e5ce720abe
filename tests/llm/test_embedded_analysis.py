"""The analysis that the embedded model writes, run in a real sandbox on tables as people have them."""

import io
import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

import openpyxl
import pytest
import pytest_asyncio

from tests.llm.conversation import calls, said, text
from tests.support.engine import sessions
from threadloom.llm.chat import AssistantMessage, ChatRequest, Function, ToolMessage
from threadloom.llm.embedded import EmbeddedModel
from threadloom.sandbox.session import Finished, Logs, Picture, SandboxFile, Session
from threadloom.testing import SequentialIds

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(300),  # the first sandbox of a loaded machine
    pytest.mark.asyncio(loop_scope="module"),
]
MODEL = EmbeddedModel(SequentialIds())
PNG = b"\x89PNG\r\n\x1a\n"
MONTHS = [f"{year}-{month:02}-01" for year in (2024, 2025) for month in range(1, 13)]
ROWS = [
    (date, ("north", "south")[number % 2], number + 1, 10.5 * (number + 1))
    for number, date in enumerate(MONTHS)
]
HEADER = ("date", "region", "units", "revenue")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session() -> AsyncGenerator[Session]:
    """One sandbox for all tables, as in a thread that goes on and on."""
    async with sessions() as sandbox, sandbox.session("analysis") as session:
        yield session


@dataclass(frozen=True)
class Analysed:
    """What came of a question: what the model said, what was printed, shown and written."""

    answer: str
    printed: str
    pictures: tuple[bytes, ...]
    files: dict[str, bytes]


def separated(separator: str = ",", *, comma: bool = False) -> str:
    rows = [HEADER, *ROWS]
    lines = [separator.join(map(str, row)) for row in rows]
    decimals = [line.replace(".", ",") if comma else line for line in lines]
    return "\n".join(decimals) + "\n"


def workbook() -> bytes:
    book = openpyxl.Workbook()
    book.active.title = "Empty"  # pyright: ignore[reportOptionalMemberAccess] - a new workbook has a sheet
    sheet = book.create_sheet("Sales")
    for row in (HEADER, *ROWS):
        sheet.append(row)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def ask(session: Session, question: str, name: str, content: bytes | None = None) -> Analysed:
    """Attach the file, let the model write its program, run that, and let the model say what came of it."""
    if content is not None:
        await session.put(name, len(content), pieces(content))
    listed = {"type": "string", "description": f"- /mnt/data/{name} (file-a, 1 bytes)"}
    tool = Function("code_interpreter", "Runs Python.", {"properties": {"code": listed}})
    request = ChatRequest("gpt-4o", (said(question),), tools=(tool,))
    (call,) = await calls(MODEL, request)
    printed, pictures, files = await execute(session, json.loads(call.arguments)["code"])
    turn = (said(question), AssistantMessage("", (call,)), ToolMessage(call.id, printed))
    answer = await text(MODEL, ChatRequest("gpt-4o", turn, tools=(tool,)))
    written = {file.path: await content_of(session, file) for file in files}
    return Analysed(answer, printed, tuple(pictures), written)


async def execute(session: Session, code: str) -> tuple[str, list[bytes], tuple[SandboxFile, ...]]:
    printed, pictures = "", list[bytes]()
    async for output in session.execute(code, seconds=20):
        match output:
            case Logs():
                printed += output.text
            case Picture():
                pictures.append(output.content)
            case Finished():
                return printed, pictures, output.files
    raise AssertionError("It did not finish.")


async def content_of(session: Session, file: SandboxFile) -> bytes:
    return b"".join([piece async for piece in session.get(file)])


TREND = (
    "revenue by date: first 10.5 (2024-01-01), last 252 (2025-12-01), lowest 10.5 (2024-01-01), highest 252 (2025-12-01).",
    "A straight line through it goes from 10.",
    "The chart shows the revenue by date.",
)
COLUMNS = "Columns: date (date), region (text), units (number), revenue (number)."
LATIN = separated().replace("region", "Gr\u00f6\u00dfe")


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("sales.csv", separated().encode(), (f"Rows in sales.csv: 24. {COLUMNS}", *TREND)),
        ("semicolons.csv", separated(";", comma=True).encode(), (COLUMNS, *TREND)),
        ("tabs.tsv", separated("\t").encode(), (COLUMNS, *TREND)),
        ("mark.csv", separated().encode("utf-8-sig"), (COLUMNS, *TREND)),
        ("wide.csv", separated().encode("utf-16"), (COLUMNS, *TREND)),
        ("latin.csv", LATIN.encode("cp1252"), ("Gr\u00f6\u00dfe (text)", *TREND)),
        ("book.xlsx", workbook(), ("sheet 'Sales'; the workbook has 2", COLUMNS, *TREND)),
        ("long.csv", (separated() + "1,2,3,4,5,6\n").encode(), ("left out: 1.", COLUMNS, *TREND)),
        (
            "records.json",
            json.dumps({"page": 1, "rows": [dict(zip(HEADER, row, strict=True)) for row in ROWS]}).encode(),
            (COLUMNS, *TREND),
        ),
        (
            "names.csv",
            separated().replace("revenue", "revenue $ \u9500\u552e\u989d $").encode(),
            ("revenue $ \u9500\u552e\u989d $ (number)", "The chart shows the units by date."),
        ),
        (
            "german.csv",
            b"Datum;Revenue\n13.01.2025;1,5\n02.02.2025;2,5\n",
            ("Revenue by Datum: first 1.5 (2025-01-13), last 2.5 (2025-02-02)",),
        ),
        ("years.csv", b"Year,Revenue\n2024,5\n2025,6\n", ("Revenue by Year: first 5 (2024-01-01)",)),
        (
            "twice.csv",
            b"date,revenue\n2025-01-01,5\n2025-01-01,6\n2025-01-02,1\n",
            ("sum of revenue by date: first 11 (2025-01-01)",),
        ),
        (
            "plain.csv",
            b"id,revenue,ok\n1,2.5,True\n2,3.5,False\n3,,True\n",
            ("Empty cells: 1.", "revenue: mean 3, median 3, from 2.5 to 3.5."),
        ),
        (
            "words.csv",
            b"name,city\nAda,Paris\nBob,Rome\nCy,Paris\n",
            ("number of rows by city: most 2 (Paris), least 1 (Rome), 2 in all.",),
        ),
        ("one.csv", b"revenue\n5\n", ("revenue: mean 5, median 5, from 5 to 5.",)),
        ("infinite.csv", b"revenue\ninf\n2\n", ("revenue: mean 2,",)),
        ("bytes.csv", b"a,revenue\n1,\xff\xfe\x00\n\x00,\x80x\n", ("Rows in bytes.csv: 2.",)),
    ],
)  # fmt: skip
async def test_a_table_is_described_and_drawn(
    session: Session, name: str, content: bytes, found: tuple[str, ...]
) -> None:
    seen = await ask(session, f"Analyse {name} and draw the trend of the revenue", name, content)
    assert "I do not reason about it" in seen.answer
    for line in found:
        assert line in seen.answer, seen.printed
    (picture,) = seen.pictures
    assert picture.startswith(PNG)
    assert seen.files == {}


@pytest.mark.parametrize(("name", "content"), [("empty.csv", b""), ("header.csv", b"a,b\n")])
async def test_a_table_without_rows_is_not_drawn(
    session: Session, name: str, content: bytes
) -> None:
    seen = await ask(session, f"Analyse {name}", name, content)
    assert "There is nothing to draw." in seen.answer
    assert seen.pictures == ()


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("broken.json", b'{"a":', "JSONDecodeError: Expecting value"),
        ("broken.xlsx", b"no workbook", "ValueError: Excel file format cannot be determined"),
        ("gone.csv", None, "FileNotFoundError: [Errno 2] No such file or directory"),
    ],
)
async def test_a_file_that_is_no_table_is_reported(
    session: Session, name: str, content: bytes | None, error: str
) -> None:
    seen = await ask(session, f"Analyse {name}", name, content)
    assert seen.answer.startswith(f"I ran Python for this. It ended with an error: {error}")
    assert seen.pictures == ()


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("Plot the units of sales.csv", "units by date: first 1 (2024-01-01)"),
        ("Plot revenue by region of sales.csv", "sum of revenue by region: most 1,638 (south)"),
        ("Average units by region in sales.csv", "mean of units by region: most 13 (south)"),
        ("Show the distribution of units in sales.csv", "units: mean 12.5, median 12.5"),
    ],
)
async def test_the_columns_that_are_named_are_drawn(
    session: Session, question: str, found: str
) -> None:
    seen = await ask(session, question, "sales.csv", separated().encode())
    assert found in seen.answer
    assert len(seen.pictures) == 1


async def test_files_are_written_when_they_are_asked_for(session: Session) -> None:
    content = separated().encode()
    seen = await ask(session, "Save the units by region as csv and xlsx", "sales.csv", content)
    summary = b"region,sum of units by region\nsouth,156\nnorth,144\n"
    assert seen.files["sales_summary.csv"] == summary
    book = openpyxl.load_workbook(io.BytesIO(seen.files["sales_summary.xlsx"]))
    assert list(book.worksheets[0].values)[1] == ("south", 156)
    seen = await ask(session, "Convert it to Excel, please", "sales.csv")
    book = openpyxl.load_workbook(io.BytesIO(seen.files["sales_converted.xlsx"]))
    assert list(book.worksheets[0].values)[:2] == [HEADER, ROWS[0]]


async def test_a_follow_up_goes_on_with_what_the_user_made_of_the_data(session: Session) -> None:
    await ask(session, "Analyse this CSV", "sales.csv", separated().encode())
    await execute(session, "df = df[df.region == 'north'].assign(profit=df.revenue * 2)")
    seen = await ask(session, "Plot the profit of the same data", "sales.csv")
    assert "profit by date: first 21 (2024-01-01), last 483 (2025-11-01)" in seen.answer
    seen = await ask(session, "Draw a chart of the revenue", "sales.csv")
    assert "Rows in sales.csv: 12." in seen.answer


async def test_a_changed_file_is_read_again(session: Session) -> None:
    await ask(session, "Analyse this CSV", "new.csv", b"revenue\n1\n")
    seen = await ask(session, "Analyse this CSV", "new.csv", b"revenue\n1\n2\n")
    assert "Rows in new.csv: 2." in seen.answer


async def test_sums_and_the_users_own_python_are_run(session: Session) -> None:
    await session.put("a.csv", 2, pieces(b"a\n"))
    seen = await ask(session, "What is 12% of 340, and sqrt(2)?", "a.csv")
    assert seen.answer.startswith("12 * 340 / 100 = 40.8\nsqrt(2) = 1.4142135623730951\n")
    seen = await ask(session, "Run\n```python\nx = 20\nx + 22\n```", "a.csv")
    assert seen.answer.endswith("It printed:\n\n```\n42\n```")
    seen = await ask(session, "Run\n```python\nprint(x)\nx / 0\n```", "a.csv")
    assert seen.answer.endswith("ended with an error: ZeroDivisionError: division by zero")
    seen = await ask(session, "Run\n```python\nx = = 1\n```", "a.csv")
    assert "ended with an error: SyntaxError: invalid syntax" in seen.answer
