"""Sends spans to the collector that the operator named: OTLP over HTTP."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from secrets import randbits

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import set_tracer_provider

from threadloom import __version__
from threadloom.telemetry.spans import TRACED_RUN

PATH = "/v1/traces"
EXPORT_SECONDS = 5.0
TRACE_BITS, SPAN_BITS = 128, 64


class RunIds(IdGenerator):
    """Gives all parts of a run one trace, whichever processes drove them: its id is made from the run's."""

    def generate_span_id(self) -> int:
        return randbits(SPAN_BITS) or 1

    def generate_trace_id(self) -> int:
        run_id = TRACED_RUN.get()
        return trace_id_of(run_id) if run_id else randbits(TRACE_BITS) or 1

    def is_trace_id_random(self) -> bool:
        """A hash's bits are as good: samplers may count on them."""
        return True


def trace_id_of(run_id: str) -> int:
    return int.from_bytes(hashlib.sha256(run_id.encode()).digest()[: TRACE_BITS // 8])


@asynccontextmanager
async def traced(
    endpoint: str, headers: Mapping[str, str], sampling: float
) -> AsyncGenerator[None]:
    """Send the share `sampling` of all traces until the block ends; what is left then is sent at its end."""
    url = endpoint if endpoint.endswith(PATH) else endpoint.rstrip("/") + PATH
    exporter = OTLPSpanExporter(url, headers=headers, timeout=EXPORT_SECONDS)
    provider = start(BatchSpanProcessor(exporter), sampling)
    try:
        yield
    finally:
        await asyncio.to_thread(provider.shutdown)


def start(processor: SpanProcessor, sampling: float = 1.0) -> TracerProvider:
    """Make spans from now on; once for the process."""
    provider = TracerProvider(
        TraceIdRatioBased(sampling),
        Resource.create({"service.name": "threadloom", "service.version": __version__}),
        shutdown_on_exit=False,
        id_generator=RunIds(),
    )
    provider.add_span_processor(processor)
    set_tracer_provider(provider)
    return provider
