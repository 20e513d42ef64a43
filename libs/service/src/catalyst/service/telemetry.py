"""Traces and metrics. Code anywhere uses the OpenTelemetry API (`get_tracer`, `get_meter`); here is said where they go.

- Metrics: always at `/metrics` for Prometheus, with exemplars; also by OTLP when `OTEL_EXPORTER_OTLP_ENDPOINT` is set.
- Traces: by OTLP when that variable is set. Without it nothing is recorded, but ids are still made and handed on, so
  one `traceparent` runs through logs and events of every service.
- Which traces are kept is OpenTelemetry's own `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`. All services want
  the same; whoever begins a trace decides for all of it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from catalyst.service.exemplars import ExemplarReader
from catalyst.service.settings import BadSettings

OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
SAMPLER, SHARE = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
SAMPLERS = ("always_on", "always_off", "traceidratio")


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
    """Providers for one process. Pure of global effects: `install` makes them the process's own.

    Raises BadSettings: the sampler is none, which OpenTelemetry itself would pass over by keeping every trace.
    """
    check_sampler(environ)
    resource = Resource.create({"service.name": service, "service.version": version, "service.namespace": "catalyst"})
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    readers: list[MetricReader] = [ExemplarReader(registry)]
    if exporting(environ):
        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
        tracer_provider = TracerProvider(resource=resource)
        tracer_provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    else:
        tracer_provider = TracerProvider(resource=resource, sampler=ParentBased(ALWAYS_OFF))
    meter_provider = MeterProvider(readers, resource=resource)
    return Telemetry(tracer_provider, meter_provider, registry)


def check_sampler(environ: Mapping[str, str]) -> None:
    """Raises BadSettings when the variables that choose traces do not mean anything."""
    name, share = environ.get(SAMPLER, ""), environ.get(SHARE, "")
    if name and name.removeprefix("parentbased_") not in SAMPLERS:
        known = ", ".join(f"parentbased_{each}" for each in SAMPLERS)
        raise BadSettings(f"{SAMPLER} is wrong; expected: one of {known}, or the same without parentbased_")
    if not share or not name.endswith("traceidratio"):
        return
    try:
        is_share = 0.0 <= float(share) <= 1.0
    except ValueError:
        is_share = False
    if not is_share:
        raise BadSettings(f"{SHARE} is wrong; expected: the share of traces to keep, from 0 to 1, such as 0.1")


def install(made: Telemetry) -> None:
    """Make these the process's providers; OpenTelemetry allows it once."""
    trace.set_tracer_provider(made.tracer_provider)
    metrics.set_meter_provider(made.meter_provider)
