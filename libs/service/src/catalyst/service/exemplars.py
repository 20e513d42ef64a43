"""Exemplars at `/metrics`: in each bucket of a histogram the last trace that fell into it.

OpenTelemetry's histograms keep them, its exporter for Prometheus leaves them out. Here they are put back in: what the
SDK hands to the exporter is looked through first, and what the exporter makes of it gets them.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import Histogram, HistogramDataPoint, MetricsData
from opentelemetry.trace import format_span_id, format_trace_id
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import Exemplar
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

Key = tuple[str, frozenset[tuple[str, str]]]
"""A series: the histogram's name and its labels."""


class ExemplarReader(PrometheusMetricReader):
    """Reads the meter provider for `registry`. An exemplar stays until another falls into its bucket, so as many are
    kept as there are buckets.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        own = CollectorRegistry()
        super().__init__(scope_info_enabled=False, registry=own)
        self._exemplars: dict[Key, dict[float, Exemplar]] = {}
        registry.register(_WithExemplars(own, self._exemplars))

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        for name, point in _points(metrics_data):
            if point.exemplars:
                kept = self._exemplars.setdefault(_key(name, point.attributes or {}), {})
                kept.update(_exemplars(point))
        super()._receive_metrics(metrics_data, timeout_millis, **kwargs)


class _WithExemplars(Collector):
    def __init__(self, plain: CollectorRegistry, exemplars: Mapping[Key, Mapping[float, Exemplar]]) -> None:
        self._plain = plain
        self._exemplars = exemplars

    def collect(self) -> Iterable[Metric]:
        for family in self._plain.collect():
            if family.type == "histogram":
                family.samples = [self._sample(family.name, sample) for sample in family.samples]
            yield family

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is depends on what was measured."""
        return ()

    def _sample(self, name: str, sample: Sample) -> Sample:
        if not sample.name.endswith("_bucket"):
            return sample
        labels = dict(sample.labels)
        edge = float(labels.pop("le"))
        found = self._exemplars.get(_key(name, labels), {}).get(edge)
        return sample._replace(exemplar=found) if found else sample


def _points(data: MetricsData | None) -> Iterator[tuple[str, HistogramDataPoint]]:
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if isinstance(metric.data, Histogram):
                    for point in metric.data.data_points:
                        yield metric.name, point


def _key(name: str, labels: Mapping[str, Any]) -> Key:
    return name, frozenset((label, str(value)) for label, value in labels.items())


def _exemplars(point: HistogramDataPoint) -> Iterator[tuple[float, Exemplar]]:
    """By the upper edge of its bucket."""
    for one in sorted(point.exemplars, key=lambda each: each.time_unix_nano):
        if one.trace_id is None or one.span_id is None:
            continue
        edge = next((bound for bound in point.explicit_bounds if one.value <= bound), float("inf"))
        ids = {"trace_id": format_trace_id(one.trace_id), "span_id": format_span_id(one.span_id)}
        yield edge, Exemplar(ids, float(one.value), one.time_unix_nano / 1e9)
