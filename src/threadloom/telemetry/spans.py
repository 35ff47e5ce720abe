"""Spans of runs: what was called, by whom, how long it took and how it ended; never what was said.

All parts of a run are in one trace, whichever workers drove them (`tracing.py`). Without an exporter none of this is kept.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, get_tracer

from threadloom.telemetry import genai

TRACER = get_tracer("threadloom")
TRACED_RUN = ContextVar[str | None]("traced_run", default=None)
"""Whose trace a span that begins one belongs to."""
Attribute = str | int | float | list[str]
Attributes = Mapping[str, Attribute | None]
BUILT_IN, FUNCTION = "extension", "function"
"""Who executes a tool: this server, or the client."""


@contextmanager
def invoke_agent(run_id: str, attributes: Attributes) -> Generator[Span]:
    """What one worker does for a run until it rests; the root of a trace, or one of its roots."""
    token = TRACED_RUN.set(run_id)
    given: Attributes = {genai.RUN_ID: run_id, **attributes}
    try:
        with span("invoke_agent", "", given, context=Context()) as one:
            yield one
    finally:
        TRACED_RUN.reset(token)


@contextmanager
def span(
    operation: genai.Operation,
    subject: str,
    attributes: Attributes,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    context: Context | None = None,
) -> Generator[Span]:
    """One operation. Of an exception only its code or type is kept: its text may be the user's."""
    known = known_of({genai.OPERATION: operation, **attributes})
    with TRACER.start_as_current_span(
        f"{operation} {subject}".rstrip(),
        context,
        kind,
        known,
        record_exception=False,
        set_status_on_exception=False,
    ) as one:
        try:
            yield one
        except Exception as error:
            code: str | None = getattr(error, "code", None)
            one.set_attribute(genai.ERROR_TYPE, code or type(error).__name__)
            one.set_status(Status(StatusCode.ERROR))
            raise


def tell(one: Span, attributes: Attributes) -> None:
    """What became known meanwhile."""
    one.set_attributes(known_of(attributes))


def known_of(attributes: Attributes) -> dict[str, Attribute]:
    return {name: value for name, value in attributes.items() if value is not None}
