"""Log lines: one for each thing that finished, with fields, on standard error; for people, or as JSON when nobody watches.

Of an exception a line has its type and where it came from. Its text is left out: it may be a message, a document, or a key.
"""

import logging
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import structlog
from structlog.typing import EventDict, ExcInfo, Processor

MOST_FRAMES = 30
MOST_TEXT = 200
"""Characters of a sentence; asyncio goes on with what the exception said on the next line."""


def configure(*, for_people: bool | None = None) -> None:
    """Once for the process, and its loggers of the standard library too: what libraries warn of becomes lines like ours."""
    readable = sys.stderr.isatty() if for_people is None else for_people
    renderer: Processor = (
        structlog.dev.ConsoleRenderer() if readable else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*PROCESSORS, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[Bridge()], level=logging.WARNING, force=True)


class Bridge(logging.Handler):
    """What libraries log through the standard library: their sentence without what they put into it."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        fields = {"logger": record.name, "exc_info": record.exc_info}
        log.log(record.levelno, str(record.msg).split("\n", 1)[0][:MOST_TEXT], **fields)


def without_text(_: object, __: str, event: EventDict) -> EventDict:
    """Put the place of an exception where the exception was."""
    given = event.pop("exc_info", None)
    error = error_of(given)
    if error is not None:
        event["exception"] = "; ".join(places(error))
    return event


def error_of(given: bool | BaseException | ExcInfo | None) -> BaseException | None:
    match given:
        case BaseException():
            return given
        case tuple():
            return given[1]
        case True:
            return sys.exception()
        case _:
            return None


def places(error: BaseException) -> Iterator[str]:
    """`Type at file:line in function < …`, innermost frame first, for the exception and each that led to it."""
    seen: BaseException | None = error
    while seen is not None:
        frames = traceback.extract_tb(seen.__traceback__)[-MOST_FRAMES:]
        where = " < ".join(
            f"{'/'.join(Path(one.filename).parts[-2:])}:{one.lineno} in {one.name}"
            for one in reversed(frames)
        )
        yield f"{type(seen).__module__}.{type(seen).__qualname__} at {where or 'no place'}"
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


PROCESSORS: Sequence[Processor] = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso"),
    without_text,
)
