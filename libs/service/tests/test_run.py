"""Whole processes: exit codes, logs, the ops door, the settings table."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

SERVICE = """
import asyncio, logging
import structlog
from opentelemetry import metrics, trace
from pydantic import Field
from catalyst.service import ServiceSettings, run

class Settings(ServiceSettings):
    greeting: str = Field(description="what to say")

async def main(settings, life):
    counter = metrics.get_meter("test").create_counter("catalyst.greetings")
    reasons = {"mood": "not awake"}
    life.add_check("mood", lambda: reasons.get("mood"))
    life.ready()
    with trace.get_tracer("test").start_as_current_span("greet"):
        structlog.get_logger().info("greeted", greeting=settings.greeting)
    logging.getLogger("foreign").warning("says %s", "hi", extra={"field": 1})
    counter.add(1, {"to": "all"})
    if settings.greeting == "crash":
        password = "canary-" + "a4c1"
        raise LookupError("nobody there")
    await life.stopping.wait()
    await asyncio.sleep(0.5)

run("service", Settings, main)
"""


@pytest.fixture(name="script")
def _script(tmp_path: Path) -> Path:
    path = tmp_path / "service.py"
    path.write_text(SERVICE)
    return path


def start(script: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    environ = {"CATALYST_OPS_HOST": "127.0.0.1", "CATALYST_OPS_PORT": "0"}
    return subprocess.Popen(
        [sys.executable, script, *arguments],
        env=environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def entries(text: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in text.splitlines()]


def test_a_whole_life(script: Path) -> None:
    with start(script, CATALYST_GREETING="hello") as process:
        assert process.stdout is not None
        listening, ready, greeted, foreign = (orjson.loads(process.stdout.readline()) for _ in range(4))
        ops = f"http://127.0.0.1:{listening['port']}"
        assert ready["event"] == "ready"
        assert (greeted["event"], greeted["greeting"], greeted["service"]) == ("greeted", "hello", "service")
        assert len(greeted["trace_id"]) == 32
        assert len(greeted["span_id"]) == 16
        assert (foreign["event"], foreign["logger"], foreign["field"]) == ("says hi", "foreign", 1)
        with httpx.Client(trust_env=False) as client:
            assert client.get(f"{ops}/healthz").json() == {"status": "ok"}
            readiness = client.get(f"{ops}/readyz")
            assert readiness.status_code == 503
            assert readiness.json() == {
                "ready": False,
                "checks": {
                    "process": {"ready": True, "reason": None},
                    "mood": {"ready": False, "reason": "not awake"},
                },
            }
            assert 'catalyst_greetings_total{to="all"} 1.0' in client.get(f"{ops}/metrics").text
            process.send_signal(signal.SIGTERM)
            assert orjson.loads(process.stdout.readline())["event"] == "stopping"
            assert client.get(f"{ops}/readyz").json()["checks"]["process"]["reason"] == "stopping"
        rest, errors = process.communicate(timeout=10)
    assert [entry["event"] for entry in entries(rest)] == ["stopped"]
    assert (process.returncode, errors) == (0, "")


def test_a_crash_is_told_and_leaves_with_1(script: Path) -> None:
    with start(script, CATALYST_GREETING="crash") as process:
        output, errors = process.communicate(timeout=20)
    crashed = entries(output)[-1]
    assert (crashed["event"], crashed["exception"][0]["exc_value"]) == ("crashed", "nobody there")
    assert crashed["exception"][0]["frames"][-1]["name"] == "main"
    assert "canary-a4c1" not in output, "a traceback shows no variables: they hold secrets"
    assert (process.returncode, errors) == (1, "")


def test_draining_too_long_leaves_with_1(script: Path) -> None:
    with start(script, CATALYST_GREETING="hello", CATALYST_DRAIN_SECONDS="0.1") as process:
        assert process.stdout is not None
        for _ in range(4):
            process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=10)
    assert "did not finish within 0.1 s" in output
    assert process.returncode == 1


def test_a_taken_port_is_told(script: Path) -> None:
    with start(script, CATALYST_GREETING="hello") as first:
        assert first.stdout is not None
        port = str(orjson.loads(first.stdout.readline())["port"])
        with start(script, CATALYST_GREETING="hello", CATALYST_OPS_PORT=port) as second:
            output, _ = second.communicate(timeout=20)
        first.kill()
    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in output


def test_a_missing_setting_leaves_with_2_and_one_sentence(script: Path) -> None:
    with start(script) as process:
        output, errors = process.communicate(timeout=20)
    assert (process.returncode, output) == (2, "")
    assert errors == "service: CATALYST_GREETING is missing; expected: what to say\n"


@pytest.mark.parametrize(
    ("argument", "told"), [("--help", "CATALYST_GREETING       required  what to say"), ("--version", "service 0.")]
)
def test_help_and_version_need_no_settings(argument: str, told: str, script: Path) -> None:
    with start(script, argument) as process:
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert told in output
