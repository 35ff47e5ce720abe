"""Writes docs/reference/metrics.md from the metrics themselves: `python tools/metrics.py`."""

from pathlib import Path

from threadloom.telemetry.metrics import SECONDS, Metric, documented

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "metrics.md"
VALUES = {
    "method": "HTTP's methods, or `other`",
    "route": "a route's template, such as `/v1/threads/{thread_id}/runs`, or `other` where none was reached",
    "status": "of a request the HTTP status, of a run its last status",
    "queue": "`runs`, `vector_store_files` or `webhook_deliveries`",
    "outcome": "`completed`, `failed`, `stopped` (by a cancellation or the end of the process); each metric has its own of these and more",
    "provider": "a provider's name in the settings, `upstream`, or `threadloom` for the embedded model",
    "model": "a model that a provider lists in the settings or an alias leads to, or `other`",
    "code": "what the run's `last_error` has",
    "direction": "`input` or `output`",
    "tool": "`file_search` or `code_interpreter`",
    "ending": "`ok`, `error`, `interrupted`, `timeout`, `out_of_memory` or `died`",
}
HEAD = """# Metrics

What `GET /metrics` tells, in Prometheus' text format; [observability](../observability.md) says who may read it and how. Each process tells what
it has counted itself since it started. A metric that was never counted is not there yet. `tools/metrics.py` writes this page.
"""
LABELS = """
No label holds an id, a text or an address, and none holds a name that a client made up.

| label | values |
|---|---|
"""
TAIL = """
Of the process itself there are Prometheus' usual `process_resident_memory_bytes`, `process_virtual_memory_bytes`, `process_cpu_seconds_total`,
`process_start_time_seconds`, `process_open_fds` and `process_max_fds`.
"""


def row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |"


def page() -> str:
    metrics = documented()
    used = {label for metric in metrics for label in metric.labels}
    buckets = ", ".join(f"{bound:g}" for bound in SECONDS)
    return "\n".join(
        [
            HEAD,
            "| name | kind | labels | |",
            "|---|---|---|---|",
            *map(row, metrics),
            f"\nThe buckets of all histograms end at {buckets} seconds.",
            LABELS
            + "\n".join(f"| `{label}` | {VALUES[label]} |" for label in VALUES if label in used),
            TAIL,
        ]
    )


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
