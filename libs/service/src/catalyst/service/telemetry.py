"""Traces and metrics. Code anywhere uses the OpenTelemetry API (`get_tracer`, `get_meter`); here is said where they go.

- Metrics: always at `/metrics` for Prometheus; also by OTLP when `OTEL_EXPORTER_OTLP_ENDPOINT` is set.
- Traces: by OTLP when that variable is set. Without it nothing is recorded, but ids are still made and handed on, so
  one `traceparent` runs through logs and events of every service.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The process's providers, and the registry that `/metrics` exposes."""

    tracer_provider: TracerProvider
    meter_provider: MeterProvider
    registry: CollectorRegistry

    def shutdown(self) -> None:
        """Send what is buffered; blocks for at most the exporters' timeouts."""
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()


def exporting(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether spans go somewhere."""
    return bool(environ.get(OTLP_ENDPOINT))


def telemetry(service: str, version: str, environ: Mapping[str, str] = os.environ) -> Telemetry:
    """Providers for one process. Pure of global effects: `install` makes them the process's own."""
    resource = Resource.create({"service.name": service, "service.version": version, "service.namespace": "catalyst"})
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    readers: list[MetricReader] = [PrometheusMetricReader(scope_info_enabled=False, registry=registry)]
    if exporting(environ):
        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
        tracer_provider = TracerProvider(resource=resource)
        tracer_provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    else:
        tracer_provider = TracerProvider(resource=resource, sampler=ParentBased(ALWAYS_OFF))
    meter_provider = MeterProvider(readers, resource=resource)
    return Telemetry(tracer_provider, meter_provider, registry)


def install(made: Telemetry) -> None:
    """Make these the process's providers; OpenTelemetry allows it once."""
    trace.set_tracer_provider(made.tracer_provider)
    metrics.set_meter_provider(made.meter_provider)
