"""Exemplars reach `/metrics`, and a sampler that means nothing stops the boot."""

from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from catalyst.service.exemplars import ExemplarReader
from catalyst.service.settings import BadSettings
from catalyst.service.stages import BUCKETS
from catalyst.service.telemetry import check_sampler


def buckets(registry: CollectorRegistry) -> Iterator[Sample]:
    for family in text_string_to_metric_families(openmetrics(registry).decode()):  # type: ignore[no-untyped-call]
        yield from (sample for sample in family.samples if sample.name == "catalyst_stage_seconds_bucket")


def test_the_last_trace_of_a_bucket_is_its_exemplar_and_stays() -> None:
    registry = CollectorRegistry()
    meter = MeterProvider([ExemplarReader(registry)]).get_meter("test")
    times = meter.create_histogram("catalyst_stage_seconds", "s", explicit_bucket_boundaries_advisory=BUCKETS)
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("slow") as span:
        times.record(170.0, {"stage": "build", "team": "acme"})
    times.record(0.2, {"stage": "build", "team": "acme"})  # in no trace
    wanted = trace.format_trace_id(span.get_span_context().trace_id)
    for _ in range(2):
        found = {sample.labels["le"]: sample.exemplar for sample in buckets(registry) if sample.exemplar}
        assert found.keys() == {"180.0"}
        assert (found["180.0"].labels["trace_id"], found["180.0"].value) == (wanted, 170.0)
    assert 'le="180.0",stage="build",team="acme"} 2.0' in generate_latest(registry).decode()


@pytest.mark.parametrize(
    ("name", "share", "named"),
    [
        ("sometimes", "", "OTEL_TRACES_SAMPLER"),
        ("parentbased_traceidratio", "often", "OTEL_TRACES_SAMPLER_ARG"),
        ("traceidratio", "1.5", "OTEL_TRACES_SAMPLER_ARG"),
    ],
)
def test_a_sampler_that_means_nothing_names_its_variable(name: str, share: str, named: str) -> None:
    with pytest.raises(BadSettings, match=f"^{named} is wrong; expected: "):
        check_sampler({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": share})


@pytest.mark.parametrize(
    ("name", "share"),
    [("", ""), ("parentbased_always_on", ""), ("parentbased_traceidratio", "0.1"), ("always_off", "x")],
)
def test_a_good_one_is_taken(name: str, share: str) -> None:
    check_sampler({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": share})
