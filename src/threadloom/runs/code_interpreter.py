"""The tool that runs Python."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from time import perf_counter

import structlog
from sqlalchemy.exc import SQLAlchemyError

from threadloom.blobs import Blobs
from threadloom.config import CodeInterpreter as Settings
from threadloom.db.database import Database
from threadloom.db.rows import RunRow
from threadloom.db.tx import Tx
from threadloom.errors import StorageUnavailable
from threadloom.events import RunTx
from threadloom.files.strays import new_blob
from threadloom.llm.chat import Function, ToolCall
from threadloom.runs.code_before import NO_CODE, code_before, this_and_last_call
from threadloom.runs.code_calls import CodeReader, code_of
from threadloom.runs.code_outcome import (
    LOST,
    LOST_AFTERWARDS,
    STARTED_ANEW,
    KeptPicture,
    Outcome,
    delta_of,
    on_one_line,
    sentences_of,
    storable,
)
from threadloom.runs.sandbox_files import (
    NAME,
    SandboxFiles,
    ThreadFile,
    remember,
    thread_files,
)
from threadloom.runs.tools import CallReader, ToolFailure, ToolResult
from threadloom.sandbox.session import (
    DATA,
    Finished,
    Logs,
    Output,
    Picture,
    Sandbox,
    SandboxLost,
    SandboxUnavailable,
)
from threadloom.telemetry import metrics
from threadloom.tokens import encoding_for
from threadloom.types.run_steps import CodeInterpreterCall, CodeInterpreterToolCall, StepToolCall
from threadloom.types.shared import JsonObject

log = structlog.stdlib.get_logger()

PACKAGES = (
    "numpy, pandas, matplotlib, seaborn, scipy, scikit-learn, statsmodels, sympy, networkx, pyarrow, openpyxl, "
    "xlsxwriter, pillow, python-docx, python-pptx, pypdf, pdfplumber, reportlab, beautifulsoup4, lxml, tabulate"
)
SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg"}
MOST_LISTED = 60


class CodeInterpreter:
    """`code_interpreter`: runs Python in the thread's sandbox, and keeps what it shows and writes."""

    def __init__(
        self, database: Database, blobs: Blobs, sandbox: Sandbox, settings: Settings
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._sandbox = sandbox
        self._settings = settings
        self._files = SandboxFiles(database, blobs, settings)
        self._last: dict[str, str] = {}
        """The last call that this process has made, by thread."""

    async def prepare(self, run: RunRow) -> None:
        """Sandboxes are made when code comes: many runs never write any."""

    async def function(self, run: RunRow) -> Function:
        files, before = await self._database.read(known_so_far, run)
        return Function(NAME, description(self._settings), parameters(files, before))

    def reader(self) -> CallReader:
        return CodeReader()

    def begun(self, run: RunRow, call: ToolCall) -> StepToolCall:
        del run
        return shown(call, [])

    async def run(self, run: RunRow, call: ToolCall, room: int) -> ToolResult:
        code = code_of(call.arguments)
        if not code.strip():
            return ToolResult(shown(call, []), NO_CODE)
        outcome = Outcome()
        this, last = await self._database.read(this_and_last_call, run, call.id)
        try:
            await self._attempt(run, this, last, code, outcome)
        except BaseException:
            await self._abandon(outcome)
            raise
        heard = await asyncio.to_thread(outcome.heard, room, encoding_for(run.model))
        outputs = outcome.outputs()
        loop = asyncio.get_running_loop()

        def record(tx: RunTx) -> None:
            outcome.record(tx)
            loop.call_soon_threadsafe(remember, self._last, run.thread_id, this)

        return ToolResult(
            shown(call, outputs),
            heard,
            delta_of(NAME, outputs),
            record,
            partial(self._abandon, outcome),
        )

    async def _abandon(self, outcome: Outcome) -> None:
        """Sweep its bytes now rather than in a day: nothing that may fail in the place of what went wrong."""
        try:
            await self._database.write(outcome.abandon)
        except SQLAlchemyError as error:
            log.warning("bytes of a call are swept late", error=type(error).__name__)

    async def _attempt(
        self, run: RunRow, this: str, last: str | None, code: str, outcome: Outcome
    ) -> None:
        try:
            await self._end_if_outdated(run.thread_id, last)
            async with self._sandbox.session(run.thread_id) as session:
                if session.fresh and last:
                    outcome.remarks.append(STARTED_ANEW)
                brought = await self._files.bring(session, run)
                outcome.remarks.extend(brought.refused)
                cell = session.execute(
                    code, seconds=self._settings.timeout, call=this, kept=last or ""
                )
                began = perf_counter()
                finished = await self._collect(cell, outcome)
                metrics.SANDBOX_RUNS.record(perf_counter() - began, ending=finished.ending)
                await self._files.take(session, brought, finished.files, outcome.taken)
        except SandboxUnavailable as error:
            raise ToolFailure(str(error)) from error
        except StorageUnavailable as error:
            raise ToolFailure(error.message) from error
        except SandboxLost:
            outcome.endings.append(LOST_AFTERWARDS if outcome.finished else LOST)

    async def _end_if_outdated(self, thread_id: str, last: str | None) -> None:
        """Another worker has gone on in a sandbox of its own: what is in ours is past. Those of a runner are everybody's."""
        if self._settings.runner.url is None and self._last.get(thread_id) != last:
            await self._sandbox.end(thread_id)

    async def _collect(self, cell: AsyncGenerator[Output], outcome: Outcome) -> Finished:
        """Raises SandboxLost."""
        async with aclosing(cell) as outputs:
            async for output in outputs:
                match output:
                    case Logs():
                        outcome.printed.append(storable(output.text))
                    case Picture():
                        outcome.pictures.append(await self._kept(output))
                    case _:
                        outcome.finished = output
                        outcome.endings.extend(sentences_of(output, self._settings))
        assert outcome.finished, "it comes last, or the sandbox is lost"
        return outcome.finished

    async def _kept(self, picture: Picture) -> KeptPicture:
        file_id = self._database.ids.new("file-")
        async with new_blob(self._database, self._blobs) as key:
            size = await self._blobs.write(key, in_one_piece(picture.content))
        return KeptPicture(file_id, f"{file_id}{SUFFIXES[picture.media_type]}", size, key)


async def in_one_piece(content: bytes) -> AsyncIterator[bytes]:
    yield content


# What the model is offered


def description(settings: Settings) -> str:
    """What the model is told of the tool, in the 1,024 characters that providers allow."""
    return (
        "Runs Python as a cell of a notebook, in this conversation's own sandbox: variables, imports and open figures are kept "
        "between calls. It gives what was printed, and the value of the last expression.\n"
        f"There is no network. A call may run {settings.timeout:g} seconds. Packages that are there: {PACKAGES}.\n"
        f"Files are in {DATA}. Save there what the user is to have, and link it in your answer as [name](sandbox:{DATA}/name).\n"
        "Pictures, such as figures of matplotlib, are shown to the user by themselves: do not link or embed them."
    )


def parameters(files: Sequence[ThreadFile], before: str = "") -> JsonObject:
    """The arguments, with the files there are and what ran before: no provider bounds what is said of an argument."""
    what = "Python to run, as in one notebook cell."
    said = "\n".join(filter(None, (what, listing(files), before)))
    return {
        "type": "object",
        "properties": {"code": {"type": "string", "description": said}},
        "required": ["code"],
    }


def listing(files: Sequence[ThreadFile]) -> str:
    """A line for each file, all inputs among them; others read these lines too."""
    if not files:
        return f"There are no files in {DATA} yet."
    inputs = [line_of(file) for file in files if file.input_id]
    written = [line_of(file) for file in files if not file.input_id]
    newest = written[-max(MOST_LISTED - len(inputs), 1) :]
    older = len(written) - len(newest)
    more = [f"and {older} older files that code wrote."] if older else []
    return "\n".join((f"Files in {DATA}:", *inputs, *newest, *more))


def line_of(file: ThreadFile) -> str:
    came_from = f"{file.input_id}, " if file.input_id else ""
    return f"- {DATA}/{on_one_line(file.path)} ({came_from}{file.size:,} bytes)"


def known_so_far(tx: Tx, run: RunRow) -> tuple[Sequence[ThreadFile], str]:
    return thread_files(tx, run), code_before(tx, run)


def shown(call: ToolCall, outputs: list[JsonObject]) -> StepToolCall:
    interpreter = CodeInterpreterCall(input=code_of(call.arguments), outputs=outputs)
    return CodeInterpreterToolCall(id=call.id, type=NAME, code_interpreter=interpreter)
