"""Drives one claimed run: turn after turn, until it ends or waits for the client."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

import structlog

from threadloom import faults
from threadloom.config import Runs
from threadloom.db.database import Database
from threadloom.db.rows import RunRow
from threadloom.db.tx import Tx
from threadloom.events import RunLog, RunTx
from threadloom.llm.chat import AssistantMessage, ChatRequest, ModelError, Models, Route, ToolCall
from threadloom.llm.failures import SORRY
from threadloom.runs import lifecycle, tool_calls
from threadloom.runs.attribution import Attributor, Evidence
from threadloom.runs.citations import AnswerReader, Citer, Sources, sources_of
from threadloom.runs.links import LinkedFile, Linker
from threadloom.runs.observed import (
    FirstText,
    agent_of,
    ask,
    count_tokens,
    executing,
    hand_over,
    rested_as,
)
from threadloom.runs.pictures import Fetched, Pictures
from threadloom.runs.sandbox_files import linkable_files
from threadloom.runs.tools import (
    BuiltInTools,
    ToolFailure,
    ToolResult,
    built_in_of,
    choice_of,
    no_such_function,
    offered,
    shown_call,
)
from threadloom.runs.transcript import Transcript, build_transcript, image_tokens, text_in, text_of
from threadloom.runs.turn import Turn, TurnWriter
from threadloom.runs.usage import run_usage
from threadloom.telemetry.spans import invoke_agent, tell
from threadloom.tokens import Tokens, encoding_for
from threadloom.types.messages import text_content
from threadloom.types.runs import Budget, RunUsage
from threadloom.types.tools import BuiltInType

P = ParamSpec("P")
R = TypeVar("R")
MAX_RESERVE = 4_096
"""Tokens kept free for an answer whose length nobody bounded."""
MAX_ATTEMPTS = 20
"""Times that a run is taken up without getting further."""
log = structlog.get_logger()


class Cancelling(Exception):
    """The client asked for the run's end."""


@dataclass(frozen=True)
class Engine:
    """What every run is driven with."""

    database: Database
    models: Models
    built_in: BuiltInTools
    settings: Runs
    download_all: bool = True
    pictures: Pictures | None = None


@dataclass(frozen=True)
class MadeByCode:
    """Pictures that the next message shows, and files that it may link."""

    pictures: list[str]
    files: list[LinkedFile]


def made_by_code(tx: Tx, run: RunRow, *, download_all: bool) -> MadeByCode:
    files = linkable_files(tx, run, of_all_purposes=download_all)
    return MadeByCode(tool_calls.unshown_pictures(tx, run.id), files)


def take_up(tx: RunTx) -> RunRow | None:
    """A claimed run's first transaction: begin, recover or close it. None when nothing is left to do.

    A run that takes its worker down each time is not taken up for ever.
    """
    run = tx.run
    if run.status == "cancelling":
        lifecycle.cancel_run(tx)
    elif run.expires_at is not None and tx.clock.now() >= run.expires_at:
        lifecycle.expire_run(tx)
    elif run.status == "requires_action":
        run.due_at = run.expires_at
    elif run.attempts >= MAX_ATTEMPTS:
        log.error("run given up", attempts=run.attempts)
        lifecycle.fail_run(tx, "server_error", SORRY)
    else:
        run.attempts += 1
        if run.status == "queued":
            lifecycle.start_run(tx)
        else:
            lifecycle.recover_run(tx)
        return run
    return None


class Execution:
    """One claimed run on its way."""

    def __init__(self, engine: Engine, log: RunLog, run: RunRow) -> None:
        self._engine = engine
        self._log = log
        self._run = run
        self._turn = run.turns
        self._fetched = Fetched()
        self._first_text = FirstText()

    async def proceed(self) -> None:
        """Go on until the run rests. Raises LeaseLost and Cancelling."""
        with invoke_agent(self._run.id, agent_of(self._run)) as span:
            try:
                await self._go_on()
            finally:
                tell(span, rested_as(self._run))

    async def _go_on(self) -> None:
        try:
            await self._prepare_tools()
            resting = await self._finish_open_calls()
            while not resting:
                resting = await self._take_turn()
        except ModelError as error:
            await self._commit(lifecycle.fail_run, error.code, error.message)
        except ToolFailure as error:
            await self._commit(lifecycle.fail_run, "server_error", str(error))

    async def _commit(
        self, action: Callable[Concatenate[RunTx, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Commit on the run unless it was told to stop."""

        def guarded(tx: RunTx) -> R:
            if tx.run.status == "cancelling":
                raise Cancelling
            result = action(tx, *args, **kwargs)
            self._run = tx.run
            return result

        return await self._log.commit(guarded)

    async def _prepare_tools(self) -> None:
        """Once for a run: a later claim finds turns."""
        if not self._turn:
            for kind in {tool.type for tool in self._run.tools}:
                if tool := built_in_of(self._run, kind, self._engine.built_in):
                    await tool.prepare(self._run)

    async def _finish_open_calls(self) -> bool:
        """A worker that was lost may have left calls of a finished turn."""
        if not self._turn:
            return False
        left_open = await self._engine.database.read(tool_calls.unanswered, self._run.id)
        return left_open is not None and await self._answer(*left_open)

    async def _take_turn(self) -> bool:
        """Ask the model once and act on its answer; True when the run rests."""
        run = self._run
        self._turn += 1
        if self._turn > self._engine.settings.max_turns:
            raise ModelError(
                "server_error",
                f"The model called tools {self._engine.settings.max_turns} times without an answer.",
            )
        if spent := spent_budget(run):
            await self._commit(lifecycle.stop_run, spent)
            return True
        route = self._engine.models.resolve(run.model)
        tokens = encoding_for(run.model)
        transcript = await build_transcript(
            self._engine.database, run, tokens, budget=prompt_budget(run, route.context_window)
        )
        if transcript.cut and run.max_prompt_tokens is not None:
            await self._commit(lifecycle.stop_run, "max_prompt_tokens")
            return True
        request = await self._request(route, transcript)
        made = await self._made_by_code()
        reader = await self._reader(route, made.files)
        writer = TurnWriter(
            self._log, run, self._turn, self._engine.built_in, reader, made.pictures
        )
        faults.point("run.asking")
        turn = await ask(route, request, writer, self._first_text)
        faults.point("run.answered")
        usage = await measured(turn, transcript, tokens)
        count_tokens(route, usage)
        rests = await self._conclude(turn, usage)
        faults.point("run.concluded")
        return rests

    def _uses(self, kind: BuiltInType) -> bool:
        return kind in self._engine.built_in and kind in {tool.type for tool in self._run.tools}

    async def _made_by_code(self) -> MadeByCode:
        """What the next message may show and link; nothing when the run has no code interpreter."""
        if not self._uses("code_interpreter"):
            return MadeByCode([], [])
        download_all = self._engine.download_all
        return await self._engine.database.read(made_by_code, self._run, download_all=download_all)

    async def _reader(self, route: Route, files: Sequence[LinkedFile]) -> AnswerReader | None:
        """Who looks after what an answer cites and links; nobody when there is nothing."""
        citer = await self._citer(route) if self._uses("file_search") else None
        return Linker(files, citer) if files else citer

    async def _citer(self, route: Route) -> AnswerReader:
        found = await self._engine.database.read(sources_of, self._run.id)
        citer = Citer(Sources(found))
        return citer if route.cites or not found else Attributor(citer, Evidence(found))

    async def _request(self, route: Route, transcript: Transcript) -> ChatRequest:
        run = self._run
        messages = transcript.messages
        if route.sees and self._engine.pictures:
            messages = await self._engine.pictures.show(run, messages, self._fetched)
        functions = await offered(run, self._engine.built_in)
        return ChatRequest(
            model=route.name,
            messages=messages,
            tools=functions,
            tool_choice=choice_of(run, transcript.messages),
            parallel_tool_calls=run.parallel_tool_calls,
            temperature=run.temperature,
            top_p=run.top_p,
            max_completion_tokens=left(run.max_completion_tokens, run.spent.completion_tokens),
            response_format=None if isinstance(run.response_format, str) else run.response_format,
            reasoning_effort=run.reasoning_effort,
        )

    async def _conclude(self, turn: Turn, usage: RunUsage) -> bool:
        """Write down how the turn ended; True when the run rests."""
        if turn.reason == "length":
            await self._commit(lifecycle.stop_run, "max_completion_tokens", usage)
            return True
        if turn.reason == "content_filter":
            await self._commit(lifecycle.filter_run, usage)
            return True
        if not turn.calls:
            content = turn.content or [text_content("")]
            await self._commit(lifecycle.complete_run, self._turn, content, usage)
            return True
        shown = [(call, shown_call(self._run, call, self._engine.built_in)) for call in turn.calls]
        await self._commit(tool_calls.record_calls, shown, usage)
        return await self._answer(turn.calls, usage)

    async def _answer(self, calls: list[ToolCall], usage: RunUsage) -> bool:
        """Run the built-in calls one after the other; the client gets its functions. True when it has to answer."""
        functions: list[ToolCall] = []
        for call in calls:
            if tool := built_in_of(self._run, call.name, self._engine.built_in):
                with executing(call):
                    result = await tool.run(self._run, call, self._room(usage) // len(calls))
                faults.point("run.tool")
                await self._record(result)
            elif result := no_such_function(self._run, call, self._engine.built_in):
                await self._commit(tool_calls.record_result, result)
            else:
                functions.append(call)
                hand_over(call)
        if functions:
            await self._commit(tool_calls.require_action, functions)
        else:
            await self._commit(tool_calls.complete_tools)
        return bool(functions)

    async def _record(self, result: ToolResult) -> None:
        try:
            await self._commit(tool_calls.record_result, result)
        except BaseException:
            if result.abandon:
                await result.abandon()
            raise

    def _room(self, usage: RunUsage) -> int:
        """Tokens that the results of a turn's calls may have, if all is to fit into the next prompt."""
        window = self._engine.models.resolve(self._run.model).context_window
        return max(prompt_budget(self._run, window) - usage.total_tokens, 0)


def spent_budget(run: RunRow) -> Budget | None:
    """The budget that leaves nothing for another turn."""
    if left(run.max_completion_tokens, run.spent.completion_tokens) == 0:
        return "max_completion_tokens"
    if left(run.max_prompt_tokens, run.spent.prompt_tokens) == 0:
        return "max_prompt_tokens"
    return None


def left(budget: int | None, spent: int) -> int | None:
    return None if budget is None else max(budget - spent, 0)


def prompt_budget(run: RunRow, context_window: int) -> int:
    """Tokens that the next prompt may have."""
    answer = left(run.max_completion_tokens, run.spent.completion_tokens)
    reserve = min(MAX_RESERVE, context_window // 4) if answer is None else answer
    fits = max(context_window - reserve, 0)
    allowed = left(run.max_prompt_tokens, run.spent.prompt_tokens)
    return fits if allowed is None else min(fits, allowed)


async def measured(turn: Turn, transcript: Transcript, tokens: Tokens) -> RunUsage:
    """What the provider counted, or our own count when it does not count."""
    if turn.usage is not None:
        return run_usage(turn.usage)
    prompt, completion = await asyncio.to_thread(count, turn, transcript, tokens)
    return RunUsage(
        prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
    )


def count(turn: Turn, transcript: Transcript, tokens: Tokens) -> tuple[int, int]:
    prompt = sum(tokens.count(text_of(one)) + image_tokens(one) for one in transcript.messages)
    answer = AssistantMessage(text_in(turn.content), tuple(turn.calls))
    return prompt, tokens.count(text_of(answer))
