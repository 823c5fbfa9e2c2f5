"""Traces, where it is said where to: OTEL_EXPORTER_OTLP_ENDPOINT and its kin, as OpenTelemetry defines them.

Where nothing is said, nothing is imported and a span costs a comparison. A trace goes from process to process as W3C's
`traceparent`: in an annotation of the EnginePlan, and in the variable TRACEPARENT of its pods. Spans hold names of our
objects and how things ended, never what people sent. A collector that is not there delays no work and fails none.
"""

import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

logger = logging.getLogger(__name__)

VARIABLE = "TRACEPARENT"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_PATIENCE = 5.0  # seconds for the collector, at the end of a process too
# https://www.w3.org/TR/trace-context/#traceparent-header, version 00
_FORM = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")

_tracer: "Tracer | None" = None
_provider: "TracerProvider | None" = None
_forced: list[tuple[int, int]] = []  # ids of the span that is being recorded


def configure(service: str, *, endpoint: str = "") -> Callable[[], None]:
    """Send this process's spans to `endpoint`, else where the environment says; nowhere where neither says anything.

    Returns what sends the last ones: call it at the end. Without the extra, one warning and no traces.
    """
    global _tracer, _provider
    if not (endpoint or os.environ.get(ENDPOINT) or os.environ.get(_TRACES_ENDPOINT)):
        return lambda: None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    except ModuleNotFoundError:
        logger.warning("No traces are sent: run pip install 'enginewright[tracing]', or unset %s.", ENDPOINT)
        return lambda: None

    class Ids(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            return _forced[-1][0] if _forced else super().generate_trace_id()

        def generate_span_id(self) -> int:
            return _forced[-1][1] if _forced else super().generate_span_id()

    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces" if endpoint else None, timeout=_PATIENCE)
    _provider = TracerProvider(resource=Resource.create({"service.name": service}), id_generator=Ids())
    _provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = _provider.get_tracer("enginewright")
    return _stop


def _stop() -> None:
    global _tracer, _provider
    if _provider is not None:
        _provider.shutdown()
    _tracer = _provider = None


def enabled() -> bool:
    """Whether spans go anywhere."""
    return _tracer is not None


@contextmanager
def span(name: str, *, parent: str = "", **attributes: str | int | float) -> Iterator[None]:
    """A span around the block, within the one around it, else of the trace `parent`. An exception marks it."""
    if _tracer is None:
        yield
        return
    with _tracer.start_as_current_span(name, context=_context(parent), attributes=attributes):
        yield


def inherited() -> str:
    """The trace that whoever started this process is in, as it is in the environment."""
    return os.environ.get(VARIABLE, "")


def begin(parent: str = "") -> str:
    """The traceparent of a span that is recorded later, in the trace of `parent` or in a new one."""
    match = _FORM.fullmatch(parent)
    trace = match[1] if match else secrets.token_hex(16)
    return f"00-{trace}-{secrets.token_hex(8)}-01"


def record(
    name: str, traceparent: str, *, parent: str = "", start: float, end: float, error: str = "", **attributes: str
) -> None:
    """Send the span that `begin` named, over so many seconds of the epoch; `parent` is what `begin` was given."""
    match = _FORM.fullmatch(traceparent)
    if _tracer is None or match is None:
        return
    from opentelemetry.context import Context
    from opentelemetry.trace import Status, StatusCode

    context = _context(parent)
    _forced.append((int(match[1], 16), int(match[2], 16)))
    try:
        made = _tracer.start_span(
            name, context=Context() if context is None else context, start_time=int(start * 1e9), attributes=attributes
        )
    finally:
        _forced.pop()
    if error:
        made.set_status(Status(StatusCode.ERROR, error))
    made.end(end_time=int(end * 1e9))


def _context(parent: str) -> "Context | None":
    """The context of a traceparent; None, which is the one around, for what is none."""
    if not _FORM.fullmatch(parent):
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": parent})
