"""All metrics, by the names they have in Prometheus; `tools/metrics.py` writes the reference from here.

Until a process starts collecting (`prometheus.py`) to count costs a tenth of a microsecond. Labels have few values: no ids, and of the
names that clients choose only those that an operator configured.
"""

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import ClassVar, Literal

from opentelemetry.metrics import CallbackOptions, Observation, get_meter

METER = get_meter("threadloom")
OTHER = "other"
"""A label's value for all that nobody configured."""
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
Kind = Literal["counter", "gauge", "histogram"]


class Metric:
    """A metric as the reference shows it."""

    kind: ClassVar[Kind]

    def __init__(self, name: str, meaning: str, *labels: str) -> None:
        self.name = name
        self.meaning = meaning
        self.labels = labels

    @property
    def bare_name(self) -> str:
        """As OpenTelemetry wants it: the exporter puts the ends back."""
        return self.name.removesuffix("_total").removesuffix("_seconds")

    @property
    def unit(self) -> str:
        return "s" if self.name.removesuffix("_total").endswith("_seconds") else ""


class Counter(Metric):
    """Only rises."""

    kind = "counter"

    def __init__(self, name: str, meaning: str, *labels: str) -> None:
        super().__init__(name, meaning, *labels)
        self._counter = METER.create_counter(self.bare_name, self.unit, meaning)

    def add(self, amount: float = 1, **labels: str) -> None:
        self._counter.add(amount, labels)


class Level(Metric):
    """Rises and falls where things come and go."""

    kind = "gauge"

    def __init__(self, name: str, meaning: str, *labels: str) -> None:
        super().__init__(name, meaning, *labels)
        self._counter = METER.create_up_down_counter(self.bare_name, self.unit, meaning)

    def change(self, amount: int) -> None:
        self._counter.add(amount)


class Timing(Metric):
    """How often, and how long: `_bucket`, `_sum` and `_count` stand behind its name."""

    kind = "histogram"

    def __init__(self, name: str, meaning: str, *labels: str) -> None:
        super().__init__(name, meaning, *labels)
        self._histogram = METER.create_histogram(
            self.bare_name, self.unit, meaning, explicit_bucket_boundaries_advisory=SECONDS
        )

    def record(self, seconds: float, **labels: str) -> None:
        self._histogram.record(seconds, labels)

    @contextmanager
    def timed(self, **labels: str) -> Generator[None]:
        """Time a block; `outcome` becomes `completed`, `failed` or, when it was cancelled, `stopped`."""
        began, outcome = perf_counter(), "completed"
        try:
            yield
        except Exception:
            outcome = "failed"
            raise
        except BaseException:
            outcome = "stopped"
            raise
        finally:
            self.record(perf_counter() - began, outcome=outcome, **labels)


class Observed(Metric):
    """A gauge that is looked up when somebody scrapes; it has at most one label."""

    kind = "gauge"

    def __init__(self, name: str, meaning: str, *labels: str) -> None:
        super().__init__(name, meaning, *labels)
        self._values: Mapping[str, float] = {}
        self._create()

    def _create(self) -> None:
        METER.create_observable_gauge(self.bare_name, [self._observe], self.unit, self.meaning)

    def know(self, values: Mapping[str, float]) -> None:
        """What is told from now on; nothing of what is not in it."""
        self._values = values

    def _observe(self, _: CallbackOptions) -> Iterable[Observation]:
        for label, value in self._values.items():
            yield Observation(value, dict.fromkeys(self.labels, label))


class ObservedCounter(Observed):
    """The same for what only rises."""

    kind = "counter"

    def _create(self) -> None:
        METER.create_observable_counter(self.bare_name, [self._observe], self.unit, self.meaning)


HTTP_REQUESTS = Timing(
    "threadloom_http_request_seconds",
    "From a request's arrival to the head of its answer; of a stream, to its beginning.",
    *("method", "route", "status"),
)
HTTP_REFUSED = Counter(
    "threadloom_http_refused_total", "Requests refused with 503 because the process had too many."
)
STREAMS = Level("threadloom_streams_open", "Streams of runs that are open now.")

QUEUE_DUE = Observed(
    "threadloom_queue_due",
    "Rows that are due and that no worker has taken; all processes tell the same.",
    "queue",
)
QUEUE_OLDEST = Observed(
    "threadloom_queue_oldest_due_seconds",
    "How long the longest due of them is due; 0 when there is none.",
    "queue",
)
WAKE_UPS_MISSED = ObservedCounter(
    "threadloom_wake_ups_missed_total",
    "Changes that this process found only because it looked each second.",
)
WORK = Timing(
    "threadloom_work_seconds",
    "What a worker did with a row that it took, to its rest or to what stopped it.",
    *("queue", "outcome"),
)

RUNS_ENDED = Counter("threadloom_runs_ended_total", "Runs that ended.", "status")
RUN_FIRST_TOKEN = Timing(
    "threadloom_run_first_token_seconds",
    "From the moment a worker took a run to the first text of its answer, tools included.",
    *("provider", "model"),
)
MODEL_CALLS = Timing(
    "threadloom_model_call_seconds",
    "One answer of a model, tries included.",
    *("provider", "model", "outcome"),
)
MODEL_FIRST_TOKEN = Timing(
    "threadloom_model_first_token_seconds",
    "From a request to a model to the first piece of its answer.",
    *("provider", "model"),
)
MODEL_ERRORS = Counter(
    "threadloom_model_errors_total", "Answers of models that failed their run.", "provider", "code"
)
MODEL_RETRIES = Counter(
    "threadloom_model_retries_total", "Tries that failed and were made again.", "provider"
)
TOKENS = Counter(
    "threadloom_tokens_total",
    "Tokens of models: `input` or `output`.",
    *("provider", "model", "direction"),
)
TOOL_CALLS = Timing(
    "threadloom_tool_call_seconds",
    "Calls of the tools that this server runs itself.",
    *("tool", "outcome"),
)

SEARCHES = Timing("threadloom_search_seconds", "Searches in vector stores.", "outcome")
INGESTED_FILES = Counter(
    "threadloom_ingestion_files_total",
    "Files on their way into vector stores: completed, failed, or to be tried again.",
    "outcome",
)
INGESTED_CHUNKS = Counter("threadloom_ingestion_chunks_total", "Chunks embedded and stored.")
INGESTIONS = Timing(
    "threadloom_ingestion_seconds", "Reading, embedding and storing one file.", "outcome"
)

SANDBOX_RUNS = Timing(
    "threadloom_sandbox_seconds", "Code that was run in sandboxes, by how it ended.", "ending"
)
SANDBOX_SESSIONS = Level(
    "threadloom_sandbox_sessions", "Sandboxes that threads hold in this process."
)
SANDBOX_STARTS = Counter("threadloom_sandbox_starts_total", "Sandboxes started.", "outcome")

EVENTS_FLUSHED = Counter(
    "threadloom_events_flushed_total", "Deltas of runs that were written to the event log."
)
"""Facts are written with what they state."""


def documented() -> list[Metric]:
    """All of them, in their order."""
    return [one for one in globals().values() if isinstance(one, Metric)]
