"""Spans of several processes make one trace, cost nothing where nobody asks, and stop nothing where nobody listens."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from collector import Collector, collecting

from enginewright_runtime import tracing


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.delenv(tracing.ENDPOINT, raising=False)
    with collecting() as running:
        yield running


def test_spans_lie_in_one_another_and_join_the_trace_that_is_inherited(collector: Collector) -> None:
    parent = tracing.begin()
    stop = tracing.configure("test", endpoint=collector.url)
    with tracing.span("outer", parent=parent, model="m"), tracing.span("inner"):
        pass
    stop()
    (inner,), (outer,) = collector.named("inner"), collector.named("outer")
    _, trace, root, _ = parent.split("-")
    assert (outer.trace, outer.parent, outer.service) == (trace, root, "test")
    assert (inner.trace, inner.parent) == (trace, outer.id)
    assert outer.attributes == {"model": "m"}


def test_a_span_that_was_begun_elsewhere_is_recorded_under_its_own_name(collector: Collector) -> None:
    above = tracing.begin()
    made = tracing.begin(above)
    stop = tracing.configure("test", endpoint=collector.url)
    tracing.record("whole", made, parent=above, start=100.0, end=103.5, outcome="DONE")
    tracing.record("failed", tracing.begin(), start=1.0, end=2.0, error="it broke")
    stop()
    (whole,), (failed,) = collector.named("whole"), collector.named("failed")
    assert f"00-{whole.trace}-{whole.id}-01" == made
    assert whole.parent == above.split("-")[2]
    assert (whole.start, whole.end) == (100_000_000_000, 103_500_000_000)
    assert failed.failed
    assert failed.parent == ""


def test_an_exception_marks_its_span(collector: Collector) -> None:
    stop = tracing.configure("test", endpoint=collector.url)
    with pytest.raises(ValueError, match="x"), tracing.span("broken"):
        raise ValueError("x")
    stop()
    assert collector.named("broken")[0].failed


@pytest.mark.parametrize("text", ["", "nonsense", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "00-xyz-1-01"])
def test_what_is_no_traceparent_begins_a_trace_of_its_own(text: str) -> None:
    _, trace, span, _ = tracing.begin(text).split("-")
    assert len(trace) == 32
    assert len(span) == 16
    assert int(trace, 16) != 0


def test_without_an_endpoint_nothing_is_imported() -> None:
    code = """
import sys
from enginewright_runtime import tracing
stop = tracing.configure("test")
with tracing.span("x"):
    pass
stop()
assert not any(name.startswith("opentelemetry") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": "/usr/bin"})


def test_a_collector_that_is_not_there_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "_PATIENCE", 0.2)
    stop = tracing.configure("test", endpoint="http://127.0.0.1:9")
    with tracing.span("lost"):
        pass
    stop()
