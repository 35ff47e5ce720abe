"""Python that a model writes, really run: an attached table, charts, files, a variable that is still there.

The scripted upstream calls the tool with the code of the message, and then quotes what it hears.
"""

import io
import json
import zipfile
from typing import Any

from openai import AssistantEventHandler
from openai.types.beta import CodeInterpreterToolParam
from openai.types.beta.threads import Message

from tests.compat.scenario.base import MODEL, QUICKLY, Scenario

INTERPRETER: CodeInterpreterToolParam = {"type": "code_interpreter"}
MONTHS = [f"2025-{month:02}-01" for month in range(1, 13)]
TABLE = "month,region,revenue\n" + "".join(
    f"{month},{('north', 'south')[number % 2]},{100 + 10 * number}\n"
    for number, month in enumerate(MONTHS)
)
TOTAL = "1860"
PNG = b"\x89PNG\r\n\x1a\n"
DRAW = """\
import matplotlib.pyplot as plt
import pandas as pd

sales = pd.read_csv("/mnt/data/sales.csv")
print("The total is", sales.revenue.sum())
sales.plot(x="month", y="revenue")
plt.show()
"""
REMEMBER = 'print("It had", len(sales), "rows")'
SAVE = """\
totals = sales.groupby("region", as_index=False).revenue.sum()
totals.to_csv("/mnt/data/totals.csv", index=False)
totals.to_excel("/mnt/data/totals.xlsx", index=False)
"""
TOTALS = b"region,revenue\nnorth,900\nsouth,960\n"


class Interpreted(Scenario):
    """What the checks share."""

    def __init__(self) -> None:
        super().__init__()
        self._analyst = self._beta.assistants.create(model=MODEL, tools=[INTERPRETER]).id

    def _attached(self, text: str) -> str:
        """A thread whose first message has the table."""
        content = ("sales.csv", TABLE.encode())
        file = self._client.files.create(file=content, purpose="assistants").id
        attachments: Any = [{"file_id": file, "tools": [INTERPRETER]}]
        message: Any = {"role": "user", "content": text, "attachments": attachments}
        thread = self._beta.threads.create(messages=[message])
        assert thread.tool_resources is not None
        assert thread.tool_resources.code_interpreter is not None
        assert thread.tool_resources.code_interpreter.file_ids == [file]
        return thread.id

    def _ask(self, thread: str, text: str) -> Message:
        self._messages.create(thread, role="user", content=text)
        return self._answered(thread)

    def _answered(self, thread: str) -> Message:
        """The answer to what was asked last."""
        run = self._runs.create_and_poll(
            thread_id=thread, assistant_id=self._analyst, poll_interval_ms=QUICKLY
        )
        assert run.status == "completed", run
        return self._messages.list(thread).data[0]

    def _watch(self, thread: str) -> "Watcher":
        watcher = Watcher()
        with self._runs.stream(
            thread_id=thread, assistant_id=self._analyst, event_handler=watcher
        ) as stream:
            stream.until_done()
            (message,) = stream.get_final_messages()
            kinds = [step.type for step in stream.get_final_run_steps()]
        assert kinds == ["tool_calls", "message_creation"]
        assert message.content == self._messages.list(thread).data[0].content
        return watcher

    def _calls(self, thread: str) -> list[Any]:
        """The calls of the newest run."""
        run = self._runs.list(thread).data[0]
        steps = self._runs.steps.list(run.id, thread_id=thread, order="asc")
        details: list[Any] = [step.step_details for step in steps]
        return [call for one in details if one.type == "tool_calls" for call in one.tool_calls]

    def _picture(self, message: Message) -> str:
        """The id of the picture that the message begins with."""
        part = message.content[0]
        assert part.type == "image_file", message.content
        assert self._client.files.content(part.image_file.file_id).read().startswith(PNG)
        return part.image_file.file_id

    def _linked(self, message: Message) -> dict[str, bytes]:
        """The files that the message links, by name."""
        part = message.content[-1]
        assert part.type == "text"
        found = dict[str, bytes]()
        for annotation in part.text.annotations:
            assert annotation.type == "file_path", annotation
            start, end = annotation.start_index, annotation.end_index
            assert part.text.value[start:end] == annotation.text
            file = self._client.files.retrieve(annotation.file_path.file_id)
            assert (file.purpose, annotation.text) == (
                "assistants_output",
                f"sandbox:/mnt/data/{file.filename}",
            )
            found[file.filename] = self._client.files.content(file.id).read()
        return found


class Code(Interpreted):
    def a_table_is_read_and_drawn(self) -> None:
        thread = self._attached(running(DRAW))
        message = self._answered(thread)
        picture = self._picture(message)
        assert f"The total is {TOTAL}" in text_of(message)
        (call,) = self._calls(thread)
        logs, image = call.code_interpreter.outputs
        assert (call.type, call.code_interpreter.input) == ("code_interpreter", DRAW)
        assert logs.logs.strip() == f"The total is {TOTAL}"
        assert image.image.file_id == picture

    def a_follow_up_uses_a_variable(self) -> None:
        thread = self._attached(running(DRAW))
        self._answered(thread)
        assert "It had 12 rows" in text_of(self._ask(thread, running(REMEMBER)))

    def files_that_the_code_wrote_are_linked(self) -> None:
        thread = self._attached(running(DRAW))
        self._answered(thread)
        files = self._linked(self._ask(thread, running(SAVE)))
        assert files["totals.csv"] == TOTALS
        with zipfile.ZipFile(io.BytesIO(files["totals.xlsx"])) as workbook:
            assert "xl/workbook.xml" in workbook.namelist()

    def a_handler_sees_code_and_pictures(self) -> None:
        thread = self._attached(running(DRAW))
        watcher = self._watch(thread)
        assert watcher.input == DRAW
        assert watcher.outputs == ["logs", "image"]
        assert watcher.heard == ["call code_interpreter", "text created", "picture", "text done"]
        message = self._messages.list(thread).data[0]
        assert watcher.pictures == [self._picture(message)]
        assert watcher.text == text_of(message)

    def a_handler_sees_links(self) -> None:
        thread = self._attached(running(DRAW))
        self._answered(thread)
        self._messages.create(thread, role="user", content=running(SAVE))
        watcher = self._watch(thread)
        assert watcher.input == SAVE
        assert watcher.annotations == [
            "sandbox:/mnt/data/totals.csv",
            "sandbox:/mnt/data/totals.xlsx",
        ]

    def a_handler_is_told_of_each_of_several_calls_once(self) -> None:
        thread = self._thread(running("print(1)") + running("print(2)"))
        teller = Teller()
        with self._runs.stream(
            thread_id=thread, assistant_id=self._analyst, event_handler=teller
        ) as stream:
            stream.until_done()
        first, second = [call.id for call in self._calls(thread)]
        # What is done last is said to be so again when the next step and the run end.
        assert teller.heard[:4] == [
            f"created {first}",
            f"done {first}: print(1) gave 1",
            f"created {second}",
            f"done {second}: print(2) gave 2",
        ]
        assert set(teller.heard[4:]) <= set(teller.heard[3:4])

    def an_error_is_output_and_the_run_goes_on(self) -> None:
        thread = self._attached(running("1 / 0"))
        message = self._answered(thread)
        assert "ZeroDivisionError: division by zero" in text_of(message)
        (call,) = self._calls(thread)
        assert "ZeroDivisionError" in call.code_interpreter.outputs[0].logs


class Analysis(Interpreted):
    """With no key at all: the embedded model writes the code."""

    def an_attached_table_is_analysed_and_drawn(self) -> None:
        thread = self._attached("Analyse this CSV and draw the trend of the revenue.")
        message = self._answered(thread)
        picture = self._picture(message)
        assert "revenue by month: first 100 (2025-01-01), last 210 (2025-12-01)" in text_of(message)
        assert "I do not reason about it" in text_of(message)
        (call,) = self._calls(thread)
        assert "pd.read_csv(path" in call.code_interpreter.input
        assert call.code_interpreter.outputs[1].image.file_id == picture

    def a_follow_up_goes_on_with_the_data(self) -> None:
        thread = self._attached("Analyse this CSV")
        self._answered(thread)
        own = "```python\ndf['profit'] = df.revenue / 2\nlen(df)\n```"
        assert "It printed:\n\n```\n12\n```" in text_of(self._ask(thread, f"Run this:\n{own}"))
        message = self._ask(thread, "And the profit by region, as a chart?")
        assert "sum of profit by region: most 480 (south)" in text_of(message)
        self._picture(message)

    def a_summary_is_saved_and_linked(self) -> None:
        thread = self._attached("Save the revenue by region as csv and xlsx, please")
        files = self._linked(self._answered(thread))
        assert files["sales_summary.csv"].splitlines()[1:] == [b"south,960", b"north,900"]
        assert zipfile.is_zipfile(io.BytesIO(files["sales_summary.xlsx"]))

    def a_handler_sees_code_and_pictures(self) -> None:
        thread = self._attached("Draw a chart of the revenue")
        watcher = self._watch(thread)
        assert watcher.heard == ["call code_interpreter", "text created", "picture", "text done"]
        (call,) = self._calls(thread)
        assert watcher.input == call.code_interpreter.input
        assert len(watcher.pictures) == 1
        assert watcher.text == text_of(self._messages.list(thread).data[0])

    def sums_are_calculated(self) -> None:
        assert "17 * 23 = 391" in text_of(self._answered(self._thread("What is 17 * 23?")))


class Watcher(AssistantEventHandler):
    """Writes down what it hears of one call and its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []
        self.input = ""
        self.outputs: list[str] = []
        self.pictures: list[str] = []
        self.annotations: list[str] = []
        self.text = ""

    def on_tool_call_created(self, tool_call: Any) -> None:
        assert tool_call.code_interpreter.input == ""
        self.heard.append(f"call {tool_call.type}")

    def on_tool_call_delta(self, delta: Any, snapshot: Any) -> None:
        self.input += delta.code_interpreter.input or ""
        self.outputs += [output.type for output in delta.code_interpreter.outputs or ()]
        assert snapshot.code_interpreter.input == self.input

    def on_image_file_done(self, image_file: Any) -> None:
        self.heard.append("picture")
        self.pictures.append(image_file.file_id)

    def on_text_created(self, text: Any) -> None:
        self.heard.append("text created")

    def on_text_delta(self, delta: Any, snapshot: Any) -> None:
        self.text += delta.value or ""
        self.annotations += [annotation.text for annotation in delta.annotations or ()]
        assert snapshot.value == self.text

    def on_text_done(self, text: Any) -> None:
        self.heard.append("text done")
        assert text.value == self.text


class Teller(AssistantEventHandler):
    """Writes down which calls began, and what each was when it was done."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def on_tool_call_created(self, tool_call: Any) -> None:
        self.heard.append(f"created {tool_call.id}")

    def on_tool_call_done(self, tool_call: Any) -> None:
        (output,) = tool_call.code_interpreter.outputs
        code, logs = tool_call.code_interpreter.input, output.logs.strip()
        self.heard.append(f"done {tool_call.id}: {code} gave {logs}")


def running(code: str) -> str:
    """A message that makes the scripted upstream call the tool with this code."""
    return f"[[tool:code_interpreter {json.dumps({'code': code})}]]"


def text_of(message: Message) -> str:
    return "".join(part.text.value for part in message.content if part.type == "text")
