"""The composition root of the HTTP process."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.routing import BaseRoute

from threadloom import __version__
from threadloom.api import (
    answers,
    assistants,
    file_batches,
    files,
    health,
    messages,
    models,
    run_steps,
    runs,
    stream_check,
    threads,
    uploads,
    usage,
    vector_store_files,
    vector_stores,
    webhooks,
)
from threadloom.api.bodies import BodyLimits
from threadloom.api.context import Context
from threadloom.api.edge import Edge
from threadloom.api.idempotency import Idempotency
from threadloom.api.limits import RequestLimits, WorkLimits
from threadloom.telemetry import prometheus
from threadloom.types.errors import Refusal

# They are tried in this order: the busiest first, and `/threads/runs` before `/threads/{thread_id}`,
# which would take it for an id.
ROUTERS = (
    messages,
    runs,
    run_steps,
    threads,
    assistants,
    file_batches,
    vector_store_files,
    vector_stores,
    files,
    uploads,
    models,
    webhooks,
    usage,
    stream_check,
    health,
)

# FastAPI would promise its own 422 where no refusal is documented.
REFUSALS: dict[int | str, dict[str, Any]] = {"4XX": {"model": Refusal}, 503: {"model": Refusal}}


# FastAPI's own would keep the text of exceptions and refused values, and begin to send where variables of others say so.
NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


def bare_app() -> FastAPI:
    return FastAPI(
        title="Threadloom",
        version=__version__,
        responses=REFUSALS,
        strict_content_type=False,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )


@cache
def routes() -> Sequence[BaseRoute]:
    """Of all apps of this process: what FastAPI makes of a route for its first request costs as much as a hundred requests."""
    app = bare_app()
    for module in ROUTERS:
        app.include_router(module.router)
    return app.router.routes


def create_app(context: Context) -> FastAPI:
    """The API over an open database; whoever made the context closes it."""
    app = bare_app()
    app.state.context = context
    app.router.routes.extend(routes())
    answers.install(app)
    settings, limits = context.settings, BodyLimits.of(context.settings)
    if settings.telemetry.metrics:
        prometheus.collect()
    # What is added later stands further outside.
    app.add_middleware(
        WorkLimits,
        database=context.database,
        defaults=settings.limits,
        max_queued_runs=settings.server.max_queued_runs,
    )
    app.add_middleware(
        Idempotency,
        database=context.database,
        rules=settings.idempotency,
        limits=limits,
        lease=settings.runs.lease,
    )
    app.add_middleware(RequestLimits, database=context.database, defaults=settings.limits)
    app.add_middleware(
        Edge,
        keys=context.keys,
        limits=limits,
        gate=context.gate,
        open_metrics=settings.telemetry.open_metrics,
    )
    return app
