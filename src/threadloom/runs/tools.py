"""Tools that run on the server. `file_search` and `code_interpreter` plug in here; a double is in `threadloom.testing`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from threadloom.db.rows import RunRow
from threadloom.events import RunTx
from threadloom.llm.chat import (
    ChatMessage,
    Function,
    NamedTool,
    ToolCall,
    ToolChoice,
    ToolMessage,
)
from threadloom.types.run_steps import AnsweredFunction, FunctionToolCall, StepToolCall
from threadloom.types.shared import JsonObject
from threadloom.types.tools import BuiltInType, FunctionTool, Tool


@dataclass(frozen=True)
class ToolResult:
    """What the step shows of a finished call, what the model is told, and what a stream adds to `begun`.

    `record` writes down in the same transaction what else the call has made; `abandon` takes it away again when that fails.
    """

    shown: StepToolCall
    heard: str
    delta: JsonObject | None = None
    record: Callable[[RunTx], None] | None = None
    abandon: Callable[[], Awaitable[None]] | None = None


class ToolFailure(Exception):
    """A tool cannot do its work; the sentence becomes the run's `last_error`."""


class CallReader(Protocol):
    """Reads the arguments of one call while the model writes them. How they are cut changes nothing."""

    def feed(self, arguments: str) -> JsonObject | None:
        """What a stream adds to the call now, if anything: it is never taken back."""
        ...

    def finish(self) -> JsonObject | None:
        """The rest: with it all pieces add up to `begun` of the whole call."""
        ...


class FunctionReader:
    """Shows the arguments of a client's function as they are."""

    def feed(self, arguments: str) -> JsonObject | None:
        return {"type": "function", "function": {"arguments": arguments}} if arguments else None

    def finish(self) -> None:
        pass


class BuiltInTool(Protocol):
    """A tool of one type for all runs. What it raises ends the run as a server error."""

    async def prepare(self, run: RunRow) -> None:
        """What must be done before the run's first turn. Cancelled when the run is. Raises ToolFailure."""
        ...

    async def function(self, run: RunRow) -> Function:
        """How the model sees the tool; its name is the tool's type."""
        ...

    def reader(self) -> CallReader | None:
        """Shows a call while it is written, from `begun` without arguments on. None: it is shown once it is whole."""
        ...

    def begun(self, run: RunRow, call: ToolCall) -> StepToolCall:
        """The call as the step shows it before it ran."""
        ...

    async def run(self, run: RunRow, call: ToolCall, room: int) -> ToolResult:
        """Do it; the model can hear `room` tokens of it. Cancelled when the run is. Raises ToolFailure."""
        ...


BuiltInTools = Mapping[BuiltInType, BuiltInTool]

CODE: BuiltInType = "code_interpreter"
NAMES_OF_CODE = frozenset(
    (
        CODE,
        *("python", "python3", "py", "ipython", "jupyter", "code", "python_interpreter"),
        *("execute_python", "run_python", "exec_python", "execute_code", "run_code"),
    )
)
"""What models call the code interpreter, whatever they were told."""


async def offered(run: RunRow, built_in: BuiltInTools) -> tuple[Function, ...]:
    """What the model may call: the run's functions, and those built-in tools that this server has."""
    functions: list[Function] = []
    for tool in run.tools:
        if isinstance(tool, FunctionTool):
            one = tool.function
            functions.append(Function(one.name, one.description, one.parameters, one.strict))
        elif tool.type in built_in:
            functions.append(await built_in[tool.type].function(run))
    return tuple(functions)


def choice_of(run: RunRow, transcript: Sequence[ChatMessage]) -> ToolChoice:
    """The run's choice; once a tool was used, the model is free, or the run would never end."""
    used = any(isinstance(message, ToolMessage) for message in transcript)
    if used and run.tool_choice != "none":
        return "auto"
    if isinstance(run.tool_choice, str):
        return run.tool_choice
    return NamedTool(chosen_name(run.tool_choice))


def names_of(run: RunRow, built_in: BuiltInTools) -> list[str]:
    """What the run's model may call."""
    return [
        name_of(tool)
        for tool in run.tools
        if isinstance(tool, FunctionTool) or tool.type in built_in
    ]


def name_of(tool: Tool) -> str:
    """What the model calls it."""
    return tool.function.name if isinstance(tool, FunctionTool) else tool.type


def meant(run: RunRow, name: str, built_in: BuiltInTools) -> str:
    """The name of the run's tool that is called so; what is none stays as it is."""
    written = name.lower().removeprefix("functions.").partition(".")[0]
    is_code = written in NAMES_OF_CODE and built_in_of(run, CODE, built_in)
    return CODE if is_code and name not in names_of(run, built_in) else name


def built_in_of(run: RunRow, name: str, built_in: BuiltInTools) -> BuiltInTool | None:
    """The tool that answers the run's calls of this name; None when the client does, or nobody."""
    kinds = {tool.type for tool in run.tools}
    return next((tool for kind, tool in built_in.items() if kind == name and kind in kinds), None)


def chosen_name(choice: JsonObject) -> str:
    return choice["function"]["name"] if choice["type"] == "function" else choice["type"]


def reader_of(run: RunRow, name: str, built_in: BuiltInTools) -> CallReader | None:
    """Who shows a call of this name while it is written."""
    tool = built_in_of(run, name, built_in)
    return tool.reader() if tool else FunctionReader()


def shown_call(run: RunRow, call: ToolCall, built_in: BuiltInTools) -> StepToolCall:
    """A call as its step shows it before it is answered."""
    if tool := built_in_of(run, call.name, built_in):
        return tool.begun(run, call)
    return function_call(call, output=None)


def no_such_function(run: RunRow, call: ToolCall, built_in: BuiltInTools) -> ToolResult | None:
    """What becomes of a call that nobody can answer; None when the client can."""
    names = names_of(run, built_in)
    if call.name in names:
        return None
    there_are = f"The functions are: {', '.join(names)}." if names else "There are no functions."
    said = f"There is no function named '{call.name}'. {there_are}"
    return ToolResult(function_call(call, output=said), said)


def function_call(call: ToolCall, output: str | None) -> FunctionToolCall:
    function = AnsweredFunction(name=call.name, arguments=call.arguments, output=output)
    return FunctionToolCall(id=call.id, type="function", function=function)
