"""What Prometheus may ask: one registry a server, conventional names, seconds as the unit.

Labels hold only what we know (served models, status codes), never what a caller wrote: otherwise anyone could grow
the registry without end.
"""

from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    exposition,
)

from enginewright_runtime.server.dataplane import Inference, Model

# From a small network on a CPU to a large one on a busy GPU.
BUCKETS: Sequence[float] = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
CONTENT_TYPE = exposition.CONTENT_TYPE_LATEST


class Metrics:
    """The server's counters, histograms and gauges."""

    def __init__(self) -> None:
        """A registry of its own, with the process's figures."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, of no use here
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = Counter(
            "enginewright_requests", "Inference requests answered.", ("model", "code"), registry=self.registry
        )
        self._request = self._histogram("enginewright_request_duration_seconds", "From the headers to the answer.")
        self._queue = self._histogram("enginewright_queue_duration_seconds", "Waiting for a thread.")
        self._inference = self._histogram("enginewright_inference_duration_seconds", "Running the engine.")
        self.in_flight = Gauge(
            "enginewright_requests_in_flight", "Inference requests not yet answered.", registry=self.registry
        )
        self._ready = Gauge(
            "enginewright_model_ready", "1 when the model answers.", ("model", "version"), registry=self.registry
        )
        self._plan = Gauge(
            "enginewright_plan_info",
            "The plan that a model is; always 1.",
            ("model", "version", "digest", "target", "builder"),
            registry=self.registry,
        )

    def answered(self, model: str, code: int, seconds: float) -> None:
        """One inference request, however it ended; `model` is empty where none of ours was meant."""
        self._requests.labels(model, str(code)).inc()
        if model:
            self._request.labels(model).observe(seconds)

    def inferred(self, model: str, inference: Inference) -> None:
        """One run of an engine."""
        self._queue.labels(model).observe(inference.queued)
        self._inference.labels(model).observe(inference.ran)

    def serving(self, models: Sequence[Model], *, ready: bool) -> None:
        """Which models there are, and whether they answer."""
        for model in models:
            manifest = model.engine.manifest
            self._ready.labels(model.name, model.version).set(float(ready))
            self._plan.labels(model.name, model.version, manifest.digest, manifest.target.kind, manifest.builder).set(1)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return exposition.generate_latest(self.registry)

    def _histogram(self, name: str, help_text: str) -> Histogram:
        return Histogram(name, help_text, ("model",), buckets=BUCKETS, registry=self.registry)
