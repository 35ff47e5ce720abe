"""Collects the metrics of this process and writes them as Prometheus reads them."""

from functools import cache

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@cache
def collect() -> CollectorRegistry:
    """Count from now on; once for the process. Nothing is sent anywhere."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    reader = PrometheusMetricReader(
        disable_target_info=True, scope_info_enabled=False, registry=registry
    )
    provider = MeterProvider(
        [reader], exemplar_filter=AlwaysOffExemplarFilter(), shutdown_on_exit=False
    )
    set_meter_provider(provider)
    return registry


def text() -> bytes:
    return generate_latest(collect())
