"""`include[]`: the passages in the results of file search, which are kept always and sent only on demand."""

from typing import Annotated, Literal

from fastapi import Depends, Query

from threadloom.db.columns import dumps, loads
from threadloom.db.tx import Shown
from threadloom.eventlog import Event
from threadloom.types.shared import JsonObject

ResultContent = Literal["step_details.tool_calls[*].file_search.results[*].content"]
STEP_EVENTS = "thread.run.step."
HAS_RESULTS = '"file_name":'
"""Only results of file search have this key; within a text its quotes would be escaped."""


async def includes(
    include: Annotated[list[ResultContent] | None, Query()] = None,
    include_brackets: Annotated[list[ResultContent] | None, Query(alias="include[]")] = None,
) -> frozenset[ResultContent]:
    """Parts of run steps that are sent only on demand."""
    return frozenset((*(include or ()), *(include_brackets or ())))


Included = Annotated[frozenset[ResultContent], Depends(includes)]


def shown_step(step: Shown, included: frozenset[ResultContent]) -> Shown:
    """A step as those see it who asked for these parts."""
    if included or "tool_calls" not in step["step_details"]:
        return step
    calls = [without_content(call) for call in step["step_details"]["tool_calls"]]
    return step | {"step_details": step["step_details"] | {"tool_calls": calls}}


def without_content(call: JsonObject) -> JsonObject:
    if call["type"] != "file_search":
        return call
    search = call["file_search"]
    results = [
        {name: value for name, value in result.items() if name != "content"}
        for result in search["results"]
    ]
    return call | {"file_search": search | {"results": results}}


def shown_event(event: Event, included: frozenset[ResultContent]) -> Event:
    """An event as those see it who asked for these parts."""
    if included or not event.name.startswith(STEP_EVENTS) or HAS_RESULTS not in event.data:
        return event
    return event._replace(data=dumps(shown_step(loads(event.data), included)))
